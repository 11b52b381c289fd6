"""The losses of training: weighted cross-entropy and Dice, sharing one rule for ignored pixels.

Shapes: B batch, K classes, H W pixels.
"""

import torch
from torch import Tensor
from torch.nn import functional

from unet_ray.schema import IGNORE_INDEX


def segmentation_loss(
    logits_BKHW: Tensor, mask_BHW: Tensor, *, class_weights_K: Tensor | None, dice_weight: float
) -> Tensor:
    """Return cross-entropy + ``dice_weight`` * Dice, in float32.

    Args:
        logits_BKHW: ``(B, K, H, W)`` of any float type.
        mask_BHW: ``(B, H, W)`` int64 class ids, 255 = ignored.
        class_weights_K: ``(K,)`` float weights of the cross-entropy, or None.
        dice_weight: Weight of the Dice loss; 0 leaves it out.
    """
    # Planes, not pixels: a softmax over a handful of adjacent channels is five times slower on a CPU.
    log_probs_BKHW = logits_BKHW.float().contiguous().log_softmax(1)
    loss = cross_entropy(log_probs_BKHW, mask_BHW, class_weights_K)
    return loss + dice_weight * dice_loss(log_probs_BKHW, mask_BHW) if dice_weight else loss


def cross_entropy(log_probs_BKHW: Tensor, mask_BHW: Tensor, class_weights_K: Tensor | None = None) -> Tensor:
    """Return the mean cross-entropy over the pixels that have a label, weighted by class.

    Args:
        log_probs_BKHW: ``(B, K, H, W)`` float log-probabilities.
        mask_BHW: ``(B, H, W)`` int64 class ids, 255 = ignored.
        class_weights_K: ``(K,)`` float weights; the mean divides by the sum of the weights met.

    Returns:
        A scalar; 0 (with zero gradient) when every pixel is ignored.
    """
    total = functional.nll_loss(
        log_probs_BKHW, mask_BHW, weight=class_weights_K, ignore_index=IGNORE_INDEX, reduction="sum"
    )
    pixels_K = _count_labels(mask_BHW, log_probs_BKHW.shape[1])
    norm = pixels_K.sum() if class_weights_K is None else (class_weights_K * pixels_K).sum()
    return total / norm.clamp(min=1e-6)


def dice_loss(log_probs_BKHW: Tensor, mask_BHW: Tensor) -> Tensor:
    """Return 1 - the mean soft Dice of the classes that occur in the batch, over the pixels that have a label.

    Dice of class k is ``2 sum(p t) / (sum(p) + sum(t))`` with probabilities p and truth t (Milletari, Navab and
    Ahmadi, "V-Net", 3DV 2016, arXiv 1606.04797, without the squares in the denominator), summed over the whole
    batch. A batch without any label gives 0.

    Args:
        log_probs_BKHW: ``(B, K, H, W)`` float log-probabilities.
        mask_BHW: ``(B, H, W)`` int64 class ids, 255 = ignored.
    """
    num_classes = log_probs_BKHW.shape[1]
    probs_BKHW = log_probs_BKHW.exp()
    labelled_BHW = (mask_BHW != IGNORE_INDEX).to(probs_BKHW.dtype)
    hits_BHW = probs_BKHW.gather(1, mask_BHW.clamp(max=num_classes - 1).unsqueeze(1)).squeeze(1)
    overlap_K = hits_BHW.new_zeros(IGNORE_INDEX + 1).index_add(0, mask_BHW.flatten(), hits_BHW.flatten())[:num_classes]
    predicted_K = torch.einsum("bkhw,bhw->k", probs_BKHW, labelled_BHW)
    true_K = _count_labels(mask_BHW, num_classes)
    present_K = true_K > 0
    dice_K = 2 * overlap_K / (predicted_K + true_K).clamp(min=1)
    return ((1 - dice_K) * present_K).sum() / present_K.sum().clamp(min=1)


def _count_labels(mask_BHW: Tensor, num_classes: int) -> Tensor:
    return torch.bincount(mask_BHW.flatten(), minlength=IGNORE_INDEX + 1)[:num_classes]
