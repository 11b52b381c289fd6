"""A whole augmentation: pair and key in, crop and colour map out. The same for training and for the contact sheet."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unet_ray.augment.balance import sample_focus
from unet_ray.augment.colour import sample_colour
from unet_ray.augment.cutout import cut_out
from unet_ray.augment.degrade import degrade
from unet_ray.augment.geometry import sample_warp
from unet_ray.augment.keys import Rngs, roll
from unet_ray.augment.warp import warp_pair
from unet_ray.config_training import AugmentSection


class Crop(NamedTuple):
    """A crop: ``(h + 2 * margin, w + 2 * margin, 3)`` uint8 RGB, ``(h, w)`` uint8 ids, and the colour map to apply.

    ``colour`` is ``(3, 4)`` float32 (`colour.sample_colour`).
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    colour: NDArray[np.float32]


def augment_pair(
    image: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    section: AugmentSection,
    rngs: Rngs,
    crop: tuple[int, int],
    margin: int = 0,
) -> Crop:
    """Return an augmented crop of an ``(H, W, 3)`` uint8 RGB image and its ``(H, W)`` uint8 mask.

    Args:
        image: The image.
        mask: Its class ids; 255 is ignored.
        section: Ranges and probabilities.
        rngs: Random numbers of the pair in this epoch.
        crop: Height and width of the mask's crop; what lies outside the frame is ignored.
        margin: px that the image's crop has more on each side.
    """
    rng = rngs("")
    balance = roll(rngs, "balance", section.balance)
    focus = None if balance is None else sample_focus(balance, mask)
    warp = sample_warp(section, rng, rngs, mask.shape, crop, margin, focus)
    image, mask = warp_pair(image, mask, warp)
    image = degrade(image, section, rngs)
    image, mask = cut_out(image, mask, section, rngs)
    return Crop(image, mask, sample_colour(section, rng))
