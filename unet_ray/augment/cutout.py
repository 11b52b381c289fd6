"""Cutout: rectangles that the network has to do without, and is not asked about."""

import numpy as np
from numpy.typing import NDArray

from unet_ray.augment.keys import Rngs
from unet_ray.augment.warp import GREY
from unet_ray.config_training import AugmentSection
from unet_ray.schema import IGNORE_INDEX


def cut_out(
    image: NDArray[np.uint8], mask: NDArray[np.uint8], section: AugmentSection, rngs: Rngs
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Hide rectangles of a crop: mid-grey in a copy of the image, ignored (255) in a copy of the mask.

    Height and width are drawn apart, the place evenly among those where the rectangle lies whole in the mask; several
    may overlap. After DeVries and Taylor 2017, who hide squares that may stick out.

    Args:
        image: ``(H + 2 * margin, W + 2 * margin, 3)`` uint8.
        mask: ``(H, W)`` uint8, of the middle of the image.
        section: How many (``cutout``), and how large (``cutout_size``).
        rngs: Random numbers of the pair.
    """
    if section.cutout == 0:
        return image, mask
    image, mask = image.copy(), mask.copy()
    margin = (image.shape[0] - mask.shape[0]) // 2
    rng, size = rngs("cutout"), np.array(mask.shape)
    for _ in range(section.cutout):
        extent = np.maximum(1, np.rint(size * rng.uniform(*section.cutout_size, 2))).astype(int)
        corner = rng.integers(size - extent, endpoint=True)
        (top, left), (bottom, right) = corner, corner + extent
        mask[top:bottom, left:right] = IGNORE_INDEX
        image[margin + top : margin + bottom, margin + left : margin + right] = round(GREY)
    return image, mask
