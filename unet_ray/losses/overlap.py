"""Losses that compare regions: soft Dice and soft Jaccard.

Both are 1 - the mean score of the classes that occur in the batch. A class that does not occur has no region to
overlap: its score would be 0 or undefined whatever the network says, so it is left out, as from the mean IoU.

Shapes: B batch, K classes, H W pixels.
"""

from typing import Any

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
    overlap_K, predicted_K = _Sums.apply(log_probs_BKHW, mask_BHW)
    return overlap_K, predicted_K, count_labels(mask_BHW, log_probs_BKHW.shape[1])


class _Sums(torch.autograd.Function):
    """The sums of p t and of p by class; its backward pass goes through the planes once."""

    @staticmethod
    def forward(ctx: Any, log_probs_BKHW: Tensor, mask_BHW: Tensor) -> tuple[Tensor, Tensor]:
        num_classes = log_probs_BKHW.shape[1]
        probs_BKHW = log_probs_BKHW.exp()
        probs_BKHW *= (mask_BHW != IGNORE_INDEX).unsqueeze(1)
        ids_B1HW = mask_BHW.clamp(max=num_classes - 1).unsqueeze(1)
        hits_B1HW = probs_BKHW.gather(1, ids_B1HW)
        ctx.save_for_backward(probs_BKHW, ids_B1HW, hits_B1HW)
        return sum_by_label(hits_B1HW, mask_BHW, num_classes), probs_BKHW.sum((0, 2, 3))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        overlap_K, predicted_K = gradients
        probs_BKHW, ids_B1HW, hits_B1HW = ctx.saved_tensors
        slope_BKHW = probs_BKHW * predicted_K.view(1, -1, 1, 1)
        return slope_BKHW.scatter_add_(1, ids_B1HW, overlap_K.take(ids_B1HW) * hits_B1HW), None
