"""Class-balanced crops: a pixel of a class that is drawn first, however rare it is, and that the crop must hold."""

import numpy as np
from numpy.typing import NDArray

from unet_ray.schema import IGNORE_INDEX


def sample_focus(rng: np.random.Generator, mask: NDArray[np.uint8]) -> tuple[int, int] | None:
    """Draw a class, each that occurs in an ``(H, W)`` mask alike, and one of its pixels.

    Returns:
        ``(x, y)``, or None where every pixel is ignored.
    """
    pixels = np.bincount(mask.ravel(), minlength=256)
    pixels[IGNORE_INDEX] = 0
    present = np.flatnonzero(pixels)
    if not len(present):
        return None
    places = np.flatnonzero(mask == rng.choice(present))
    y, x = divmod(int(rng.choice(places)), mask.shape[1])
    return x, y
