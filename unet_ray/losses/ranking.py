"""Pixels in order of how wrong they are.

Shapes: B batch, K classes, H W pixels, N = B * H * W.
"""

import torch
from torch import Tensor
from torch.nn import functional

from unet_ray.schema import IGNORE_INDEX


@torch.no_grad()
def rank_descending(values_N: Tensor) -> Tensor:
    """Return the ``(N,)`` int64 positions of values >= 0, largest first; negative values come last, in any order.

    The bits of floats >= 0 sort as integers do, and one-dimensional integers have a radix sort, which is ten times
    faster on a CPU.
    """
    # abs: the bits of -0.0 are those of a negative number. NaN stays, and comes first.
    bits_N = torch.where(values_N < 0, -1.0, values_N.abs()).float().view(torch.int32)
    return (-bits_N).argsort()


@torch.no_grad()
def keep_hardest(log_probs_BKHW: Tensor, mask_BHW: Tensor, fraction: float) -> Tensor:
    """Return a mask in which only the hardest share of the labelled pixels of the batch still has a label.

    The hardest are those to whose true class the network gives the smallest probability: the online bootstrapping of
    Wu, Shen and van den Hengel, "Bridging Category-level and Instance-level Semantic Image Segmentation", arXiv
    1605.06885, with a share of the pixels instead of their number.

    Args:
        log_probs_BKHW: ``(B, K, H, W)`` float log-probabilities.
        mask_BHW: ``(B, H, W)`` int64 class ids, 255 = ignored.
        fraction: In (0, 1]; rounded to whole pixels, at least one.

    Returns:
        ``(B, H, W)`` int64.
    """
    nll_BHW = functional.nll_loss(log_probs_BKHW, mask_BHW, ignore_index=IGNORE_INDEX, reduction="none")
    labelled_BHW = mask_BHW != IGNORE_INDEX
    order_N = rank_descending(torch.where(labelled_BHW, nll_BHW, -1.0).flatten())
    kept = (fraction * labelled_BHW.sum().double()).round().clamp(min=1)
    is_kept_N = torch.arange(order_N.numel(), device=order_N.device) < kept
    hard_BHW = torch.zeros_like(is_kept_N).scatter(0, order_N, is_kept_N).view_as(mask_BHW)
    return mask_BHW.masked_fill(~hard_BHW, IGNORE_INDEX)
