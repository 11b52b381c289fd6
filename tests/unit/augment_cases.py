"""Sections with one option on, pairs to try them on, and the random numbers of a pair."""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from unet_ray.augment.keys import Rngs, make_rng
from unet_ray.augment.pair import Crop, augment_pair
from unet_ray.config_training import AugmentSection

Bytes = NDArray[np.uint8]

SIZE = (24, 36)
_OFF = {"hflip": 0, "vflip": 0, "scale": (1, 1), "brightness": 0, "contrast": 0, "saturation": 0}


def changed(**changes: object) -> AugmentSection:
    """Return a section that changes nothing but what is given."""
    return AugmentSection(**_OFF | changes)


PLAIN = changed()


def rngs_of(number: int) -> Rngs:
    """Return the random numbers of one of many pairs."""
    return partial(make_rng, 0, 1, str(number))


def make_pair(height: int, width: int) -> tuple[Bytes, Bytes]:
    """Return an image and a mask of noise, 20 classes."""
    rng = np.random.default_rng(0)
    image = rng.integers(256, size=(height, width, 3), dtype=np.uint8)
    return image, rng.integers(20, size=(height, width), dtype=np.uint8)


def augment(
    section: AugmentSection, pair: tuple[Bytes, Bytes], crop: tuple[int, int], number: int = 0, margin: int = 0
) -> Crop:
    """Augment a pair with the random numbers of one of many."""
    return augment_pair(*pair, section, rngs_of(number), crop, margin)
