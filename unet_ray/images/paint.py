"""Masks as people see them: in the colours of their classes, alone or over the photo."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from unet_ray.schema import IGNORE_INDEX


def paint(mask: NDArray[np.uint8], palette: Sequence[Sequence[int]]) -> NDArray[np.uint8]:
    """Return ``(H, W, 3)`` uint8 colours of an ``(H, W)`` uint8 mask; what has no class is black."""
    colours = np.zeros((256, 3), np.uint8)
    colours[: len(palette)] = palette
    return colours[mask]


def blend(image: NDArray[np.uint8], mask: NDArray[np.uint8], palette: Sequence[Sequence[int]]) -> NDArray[np.uint8]:
    """Return an ``(H, W, 3)`` uint8 photo half covered by the colours of an ``(H, W)`` uint8 mask; 255 leaves it."""
    mixed = ((image.astype(np.uint16) + paint(mask, palette)) // 2).astype(np.uint8)
    return np.where((mask == IGNORE_INDEX)[..., None], image, mixed)
