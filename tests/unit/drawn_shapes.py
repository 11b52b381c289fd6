"""Four small frames with a disc and a box on grey noise, which a network can learn by heart in seconds."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

NUM_CLASSES = 3
_COLOURS = np.array([[90, 90, 90], [200, 80, 40], [40, 120, 220]], np.float64)


def draw_shapes(side: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return ``(4, side, side, 3)`` images and ``(4, side, side)`` masks."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side]
    masks = np.zeros((4, side, side), np.uint8)
    for mask in masks:
        centre_y, centre_x = rng.integers(side // 4, 3 * side // 4, 2)
        mask[(y - centre_y) ** 2 + (x - centre_x) ** 2 < (side // 5) ** 2] = 1
        top = rng.integers(side // 2)
        mask[top : top + side // 4, : side // 3] = 2
    images = _COLOURS[masks] + rng.normal(0, 25, (*masks.shape, 3))
    return images.clip(0, 255).astype(np.uint8), masks


def to_batch(images: NDArray[np.uint8], masks: NDArray[np.uint8], margin: int) -> tuple[Tensor, Tensor]:
    """Return normalised images, mirrored by ``margin`` pixels on each side, and masks as training takes them."""
    around = ((0, 0), (margin, margin), (margin, margin), (0, 0))
    image_BHWC = torch.from_numpy(np.pad(images, around, mode="reflect")).float()
    return (image_BHWC.permute(0, 3, 1, 2) - 100) / 60, torch.from_numpy(masks).long()
