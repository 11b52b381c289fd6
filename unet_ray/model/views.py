"""Test-time augmentation: the same image flipped and scaled, and the mean of what a network makes of its views.

Shapes: B batch, C channels, K classes, H W pixels.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from unet_ray.config import SCALE_STEPS, Flips


@dataclass(frozen=True, slots=True)
class View:
    """A way to look at an image: the axes along which it is flipped, and by how much it is scaled."""

    axes: tuple[int, ...]
    scale: float


PLAIN = (View((), 1.0),)
"""The image as it is."""


def make_views(flips: Flips, scales: tuple[float, ...]) -> tuple[View, ...]:
    """Return all combinations of flips and scales."""
    axes: dict[Flips, tuple[tuple[int, ...], ...]] = {
        "none": ((),),
        "horizontal": ((), (3,)),
        "both": ((), (3,), (2,), (2, 3)),
    }
    return tuple(View(flipped, scale) for scale in scales for flipped in axes[flips])


def view_step(views: tuple[View, ...], stride: int) -> int:
    """Return what tiles begin at multiples of, so that every view of a tile is the tile of a view."""
    return stride if all(view.scale == 1 for view in views) else stride * SCALE_STEPS


def view_reach(views: tuple[View, ...], reach: int | None) -> int | None:
    """Return how far the network's ``reach`` is over all views, with what interpolation adds."""
    if reach is None:
        return None
    return max(reach if view.scale == 1 else math.ceil((reach + 4) / view.scale) + 4 for view in views)


def average_views(network: Callable[[Tensor], Tensor], image_BCHW: Tensor, views: tuple[View, ...]) -> Tensor:
    """Return the logarithm of the mean of the ``(B, K, h, w)`` probabilities of all views of a normalised image.

    Args:
        network: From an image to logits, of its size where a view is scaled.
        image_BCHW: The image; its height and width are multiples of `view_step` where a view is scaled.
        views: The views.
    """
    total_BKHW = reduce(Tensor.add_, (_probs(network, image_BCHW, view) for view in views))
    return total_BKHW.div_(len(views)).clamp_min_(torch.finfo(torch.float32).tiny).log_()


def _probs(network: Callable[[Tensor], Tensor], image_BCHW: Tensor, view: View) -> Tensor:
    seen_BCHW = _resize(image_BCHW, view.scale).flip(view.axes).to(image_BCHW.dtype)
    probs_BKHW = network(seen_BCHW.contiguous(memory_format=torch.channels_last)).float().softmax(1)
    return _resize(probs_BKHW.flip(view.axes), 1 / view.scale)


def _resize(map_BCHW: Tensor, scale: float) -> Tensor:
    if scale == 1:
        return map_BCHW
    size = [round(side * scale) for side in map_BCHW.shape[2:]]
    return interpolate(map_BCHW.float(), size, mode="bilinear", antialias=scale < 1)
