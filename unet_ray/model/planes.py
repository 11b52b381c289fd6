"""From the logits of an image to what is known of each of its pixels.

In place, plane by plane: on a CPU a reduction over classes that stand together, as channels last has them, takes twice
as long as all of this. Shapes: K classes, H W pixels.
"""

import math

import torch
from torch import Tensor


def make_planes(logits_KHW: Tensor, *, measured: bool, second: bool) -> dict[str, Tensor]:
    """Return ``(H, W)`` uint8 planes by the names of `segmented.Segmented`: the mask, and what else is asked for.

    Of equally probable classes the first one counts.
    """
    below_KHW = logits_KHW.to(torch.float32, memory_format=torch.contiguous_format, copy=True)
    below_KHW -= below_KHW.amax(0)
    planes = {}
    if measured:
        planes["confidence"], planes["entropy"] = _measure(below_KHW)
    if second:
        planes["mask"] = _first_zero(below_KHW.clone())
        below_KHW.scatter_(0, planes["mask"][None].long(), -math.inf)
        planes["second"] = _first_zero(below_KHW.sub_(below_KHW.amax(0)))
    else:
        planes["mask"] = _first_zero(below_KHW)
    return planes


def _measure(below_KHW: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest probability and the entropy in 1/255, of log(K) the latter, from logits below the largest."""
    odds_KHW = below_KHW.exp()
    total_HW = odds_KHW.sum(0)
    entropy_HW = total_HW.log() - odds_KHW.mul_(below_KHW).sum(0).div_(total_HW)
    most = math.log(max(2, len(below_KHW)))
    planes = (total_HW.reciprocal_(), entropy_HW.div_(most).clamp_(0, 1))
    confidence_HW, entropy_HW = (plane.mul_(255).round_().to(torch.uint8) for plane in planes)
    return confidence_HW, entropy_HW


def _first_zero(below_KHW: Tensor) -> Tensor:
    """Return the first class that is not below another; uses the logits up.

    As `argmax` would, but that is six times as slow: it is not vectorised over planes.
    """
    last = len(below_KHW) - 1
    places_K11 = torch.arange(last, -1, -1, dtype=below_KHW.dtype, device=below_KHW.device)[:, None, None]
    return (last - below_KHW.eq_(0).mul_(places_K11).amax(0)).to(torch.uint8)
