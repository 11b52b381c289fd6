"""The border weights of the U-Net paper: pixels between cells that nearly touch weigh more. Runs in data tasks."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

_NEGLIGIBLE = 1e-3


@dataclass(frozen=True, kw_only=True, slots=True)
class Borders:
    """What cells are, components of the classes ``class_ids``; the weight between two that touch; sigma in pixels."""

    class_ids: tuple[int, ...]
    weight: float
    sigma: float


def border_weights(mask: NDArray[np.uint8], borders: Borders) -> NDArray[np.float32]:
    """Return ``weight * exp(-(d1 + d2) ** 2 / (2 sigma ** 2))``, d1 and d2 the distances to the two nearest cells.

    Ronneberger, Fischer and Brox, "U-Net", MICCAI 2015, arXiv 1505.04597, equation 2, without the class's own weight.
    A cell is a component of pixels of one class that touch at their sides; d1 is 0 inside of it. Where there are fewer
    than two cells, the weight is 0. Weights below 0.001 may be 0 as well: a cell is looked for no further than where
    it can matter, so the time goes with the sum of the cells' areas and not with cells times pixels.

    Args:
        mask: ``(H, W)`` uint8 class ids.
        borders: What cells are, and the two constants.

    Returns:
        ``(H, W)`` float32.
    """
    reach = math.ceil(borders.sigma * math.sqrt(2 * math.log(max(1.0, borders.weight / _NEGLIGIBLE))))
    nearest = np.full(mask.shape, np.inf, np.float32)
    second = nearest.copy()
    for class_id in borders.class_ids:
        _, cells, boxes, _ = cv2.connectedComponentsWithStats((mask == class_id).view(np.uint8), connectivity=4)
        for cell, (x, y, width, height, _) in enumerate(boxes[1:].tolist(), start=1):
            near = np.s_[max(0, y - reach) : y + height + reach, max(0, x - reach) : x + width + reach]
            outside = (cells[near] != cell).view(np.uint8)
            distance = cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            second[near] = np.minimum(second[near], np.maximum(nearest[near], distance))
            nearest[near] = np.minimum(nearest[near], distance)
    gap = nearest + second
    return np.asarray(borders.weight * np.exp(gap * gap / (-2 * borders.sigma**2)), np.float32)
