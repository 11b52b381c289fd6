"""Cutting a crop out of a pair: each pixel of the image is interpolated once, each of the mask is its nearest one."""

import cv2
import numpy as np
from numpy.typing import NDArray

from unet_ray.augment.geometry import Warp, locate, moved
from unet_ray.schema import IGNORE_INDEX

GREY = 127.5
"""What the image has where there is none; becomes 128."""


def warp_pair(
    image: NDArray[np.uint8], mask: NDArray[np.uint8], warp: Warp
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Cut the crop that ``warp`` sees out of an ``(H, W, 3)`` image and its ``(H, W)`` mask.

    The image has the margin around the crop, the mask has not. Outside the frame the mask is ignored (255) and the
    image is mid-grey; with a margin it is mirrored there instead, as prediction with such a network mirrors it.
    """
    places = None if warp.shifts is None else locate(warp)
    border = cv2.BORDER_REFLECT_101 if warp.margin else cv2.BORDER_CONSTANT
    return (
        _cut(image, warp, places, warp.margin, cv2.INTER_LINEAR, border, GREY),
        _cut(mask, warp, places, 0, cv2.INTER_NEAREST, cv2.BORDER_CONSTANT, IGNORE_INDEX),
    )


def _cut(
    pixels: NDArray[np.uint8],
    warp: Warp,
    places: NDArray[np.float32] | None,
    margin: int,
    interpolation: int,
    border: int,
    fill: float,
) -> NDArray[np.uint8]:
    """Cut out the crop with ``margin`` px around it, by the cheapest way; ``places`` are those of `locate`."""
    height, width = (size + 2 * margin for size in warp.crop)
    fills = (fill, fill, fill)
    if places is not None:
        skip = warp.margin - margin
        x, y = places[:, skip : skip + height, skip : skip + width]
        cut = cv2.remap(pixels, x, y, interpolation, borderMode=border, borderValue=fills)
        return np.asarray(cut, np.uint8)
    matrix, flags = warp.matrix, interpolation | cv2.WARP_INVERSE_MAP
    if margin:
        matrix = matrix @ moved((-margin, -margin))
    if warp.is_affine:
        cut = cv2.warpAffine(pixels, matrix[:2], (width, height), flags=flags, borderMode=border, borderValue=fills)
    else:
        cut = cv2.warpPerspective(pixels, matrix, (width, height), flags=flags, borderMode=border, borderValue=fills)
    return np.asarray(cut, np.uint8)
