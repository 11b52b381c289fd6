"""Changing sizes: images are averaged or interpolated, masks never invent an id."""

import cv2
import numpy as np
from numpy.typing import NDArray


def resize_image(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resize an ``(H, W, 3)`` uint8 image: area average when it shrinks, bilinear when it grows."""
    if image.shape[:2] == (height, width):
        return image
    shrinks = height * width < image.shape[0] * image.shape[1]
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR))


def resize_mask(mask: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resize an ``(H, W)`` uint8 mask to the nearest pixel's id."""
    if mask.shape == (height, width):
        return mask
    return np.asarray(cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT))
