"""Losses that compare regions: soft Dice and soft Jaccard.

Both are 1 - the mean score of the classes that occur in the batch. A class that does not occur has no region to
overlap: its score would be 0 or undefined whatever the network says, so it is left out, as from the mean IoU.

Shapes: B batch, K classes, H W pixels.
"""

import torch
from torch import Tensor

from unet_ray.losses.labels import count_labels, mean_of_present, sum_by_label
from unet_ray.schema import IGNORE_INDEX


def dice_loss(log_probs_BKHW: Tensor, mask_BHW: Tensor) -> Tensor:
    """Return 1 - the mean soft Dice of the classes that occur, over the pixels that have a label.

    Dice of class k is ``2 sum(p t) / (sum(p) + sum(t))`` with probabilities p and truth t (Milletari, Navab and
    Ahmadi, "V-Net", 3DV 2016, arXiv 1606.04797, without the squares in the denominator), summed over the whole
    batch. A batch without any label gives 0.

    Args:
        log_probs_BKHW: ``(B, K, H, W)`` float log-probabilities.
        mask_BHW: ``(B, H, W)`` int64 class ids, 255 = ignored.
    """
    overlap_K, predicted_K, true_K = _measure(log_probs_BKHW, mask_BHW)
    dice_K = 2 * overlap_K / (predicted_K + true_K).clamp(min=1)
    return mean_of_present(1 - dice_K, true_K)


def jaccard_loss(log_probs_BKHW: Tensor, mask_BHW: Tensor) -> Tensor:
    """Return 1 - the mean soft IoU of the classes that occur, over the pixels that have a label.

    IoU of class k is ``sum(p t) / sum(p + t - p t)`` with probabilities p and truth t (Rahman and Wang, "Optimizing
    Intersection-Over-Union in Deep Neural Networks for Image Segmentation", ISVC 2016, equations 3 to 5), summed over
    the whole batch. A batch without any label gives 0. Arguments: as `dice_loss`.
    """
    overlap_K, predicted_K, true_K = _measure(log_probs_BKHW, mask_BHW)
    iou_K = overlap_K / (predicted_K + true_K - overlap_K).clamp(min=1)
    return mean_of_present(1 - iou_K, true_K)


def _measure(log_probs_BKHW: Tensor, mask_BHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return for each class the sums of p t, of p, and of t (int64), over the pixels that have a label."""
    num_classes = log_probs_BKHW.shape[1]
    probs_BKHW = log_probs_BKHW.exp()
    labelled_BHW = (mask_BHW != IGNORE_INDEX).to(probs_BKHW.dtype)
    hits_BHW = probs_BKHW.gather(1, mask_BHW.clamp(max=num_classes - 1).unsqueeze(1)).squeeze(1)
    overlap_K = sum_by_label(hits_BHW, mask_BHW, num_classes)
    predicted_K = torch.einsum("bkhw,bhw->k", probs_BKHW, labelled_BHW)
    return overlap_K, predicted_K, count_labels(mask_BHW, num_classes)
