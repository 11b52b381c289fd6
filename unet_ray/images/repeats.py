"""Frames that a camera or a converter wrote twice, told by what is left of them at 32 x 32 pixels."""

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

LARGEST_REPEAT_DISTANCE = 0.5
"""Mean difference, in 0..255, up to which two frames are one: coding noise stays below it, motion does not."""

_SIDE = 32


def make_thumbnail(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an ``(H, W, 3)`` uint8 image as ``(32, 32, 3)``, each pixel the mean of its area."""
    return np.asarray(cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA))


def frame_distance(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Return the mean absolute difference of two thumbnails, in 0..255."""
    return float(np.abs(first.astype(np.int16) - second).mean())


def find_repeats(thumbnails: Iterable[NDArray[np.uint8]]) -> list[int]:
    """Return the positions of the thumbnails that repeat the one before them; takes them one at a time."""
    repeats, before = [], None
    for position, thumbnail in enumerate(thumbnails):
        if before is not None and frame_distance(before, thumbnail) <= LARGEST_REPEAT_DISTANCE:
            repeats.append(position)
        before = thumbnail
    return repeats
