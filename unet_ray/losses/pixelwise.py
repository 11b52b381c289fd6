"""Losses that are a weighted mean over pixels: cross-entropy and focal loss.

The weight of a pixel of class y is ``class_weights_K[y] + border_BHW``, as in the U-Net paper (Ronneberger, Fischer and
Brox, MICCAI 2015, arXiv 1505.04597, equation 2); the mean divides by the sum of the weights met.

Shapes: B batch, K classes, H W pixels.
"""

import torch
from torch import Tensor
from torch.nn import functional

from unet_ray.losses.labels import count_labels
from unet_ray.schema import IGNORE_INDEX

_LEAST_WEIGHT = 1e-6
_LEAST_DOUBT = 1e-8  # keeps the slope of a power below 1 finite; below what float32 tells from certainty


def cross_entropy(
    log_probs_BKHW: Tensor,
    mask_BHW: Tensor,
    class_weights_K: Tensor,
    border_BHW: Tensor | None = None,
    *,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return the weighted mean cross-entropy over the pixels that have a label.

    Args:
        log_probs_BKHW: ``(B, K, H, W)`` float log-probabilities.
        mask_BHW: ``(B, H, W)`` int64 class ids, 255 = ignored.
        class_weights_K: ``(K,)`` float weights.
        border_BHW: ``(B, H, W)`` float weights on top of them (`borders.border_weights`), or None.
        label_smoothing: Share in [0, 1) of each label that is spread evenly over all classes (Szegedy et al.,
            "Rethinking the Inception Architecture", CVPR 2016, section 7); each class's part has the class's weight, as
            in PyTorch.

    Returns:
        A scalar; 0 (with zero gradient) when every pixel is ignored or weighs nothing.
    """
    total = functional.nll_loss(
        log_probs_BKHW, mask_BHW, weight=class_weights_K, ignore_index=IGNORE_INDEX, reduction="sum"
    )
    if border_BHW is not None:
        total = total + (border_BHW * _surprise(log_probs_BKHW, mask_BHW)).sum()
    if label_smoothing:
        labelled_BHW = (mask_BHW != IGNORE_INDEX).to(log_probs_BKHW.dtype)
        spread = torch.einsum("bkhw,bhw,k->", log_probs_BKHW, labelled_BHW, class_weights_K)
        if border_BHW is not None:
            spread = spread + torch.einsum("bkhw,bhw->", log_probs_BKHW, border_BHW * labelled_BHW)
        total = (1 - label_smoothing) * total - label_smoothing * spread / log_probs_BKHW.shape[1]
    return total / _total_weight(mask_BHW, class_weights_K, border_BHW)


def focal_loss(
    log_probs_BKHW: Tensor,
    mask_BHW: Tensor,
    class_weights_K: Tensor,
    border_BHW: Tensor | None = None,
    *,
    gamma: float,
) -> Tensor:
    """Return the weighted mean of ``(1 - p) ** gamma * -log(p)``, p being the probability of the true class.

    Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, arXiv 1708.02002, equation 5, with the weights of
    the classes as alpha. ``gamma`` >= 0; 0 is the cross-entropy. Other arguments and the result: as `cross_entropy`.
    """
    surprise_BHW = _surprise(log_probs_BKHW, mask_BHW)
    doubt_BHW = (-torch.expm1(-surprise_BHW)).clamp(min=_LEAST_DOUBT)
    weights_BHW = functional.pad(class_weights_K, (0, IGNORE_INDEX + 1 - len(class_weights_K))).take(mask_BHW)
    if border_BHW is not None:
        weights_BHW = weights_BHW + border_BHW
    total = (weights_BHW * doubt_BHW**gamma * surprise_BHW).sum()
    return total / _total_weight(mask_BHW, class_weights_K, border_BHW)


def _surprise(log_probs_BKHW: Tensor, mask_BHW: Tensor) -> Tensor:
    """Return ``-log(p)`` of the true class; 0, without a gradient, where there is none."""
    return functional.nll_loss(log_probs_BKHW, mask_BHW, ignore_index=IGNORE_INDEX, reduction="none")


def _total_weight(mask_BHW: Tensor, class_weights_K: Tensor, border_BHW: Tensor | None) -> Tensor:
    total = (class_weights_K * count_labels(mask_BHW, len(class_weights_K))).sum()
    if border_BHW is not None:
        total = total + (border_BHW * (mask_BHW != IGNORE_INDEX)).sum()
    return total.clamp(min=_LEAST_WEIGHT)
