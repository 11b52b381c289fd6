"""Colours that tell classes apart, for tools that know a class by nothing else."""

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from unet_ray.config_input import Colour
from unet_ray.labels.classes import ClassMap

BLACK: Colour = (0, 0, 0)
"""What pixels without a class are painted."""


@functools.lru_cache(maxsize=4)
def distinct_palette(classes: ClassMap) -> tuple[Colour, ...]:
    """Return the palette of classes with a colour of VOC's for each that an earlier one has, or black.

    Only the background may be black, which elsewhere means no class.
    """
    kept: list[Colour | None] = []
    for class_id, colour in enumerate(classes.palette):
        free = colour not in kept and (colour != BLACK or class_id == classes.background)
        kept.append(colour if free else None)
    spare = (colour for colour in _as_tuples(voc_colours()[1:]) if colour not in kept)
    return tuple(next(spare) if colour is None else colour for colour in kept)


def voc_colours() -> NDArray[np.uint8]:
    """Return the ``(256, 3)`` colours of PASCAL VOC's masks: bits of a number, dealt in turn to R, G and B."""
    numbers = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        colours[:, bit % 3] |= ((numbers >> bit & 1) << 7 - bit // 3).astype(np.uint8)
    return colours


def _as_tuples(colours: NDArray[np.uint8]) -> Sequence[Colour]:
    return [(r, g, b) for r, g, b in colours.tolist()]
