"""Confusion counts and the ratios derived from them: the one definition of IoU.

Counts are integers and are added; a ratio is computed once, at the end, and is None where it is undefined.
The confusion matrix has the true class as row and the predicted class as column.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from unet_ray.schema import IGNORE_INDEX

_VALUES = 256
_SMALL_PIXELS = 2**17  # have fewer components than 16 bits count: no four pixels in a square hold two of one class
_EXACT_PIXELS = 2**24  # OpenCV's histograms count in float32, which is exact up to here


def count_confusion(true_mask: NDArray[np.uint8], pred_mask: NDArray[np.uint8], num_classes: int) -> NDArray[np.int64]:
    """Count pixels by true and predicted class.

    Args:
        true_mask: ``(H, W)`` uint8 class ids; 255 and anything >= ``num_classes`` is not counted.
        pred_mask: ``(H, W)`` uint8 class ids below ``num_classes``.
        num_classes: K.

    Returns:
        ``(K, K)`` int64.
    """
    return count_pairs(true_mask, pred_mask, num_classes, num_classes)


def count_pairs(
    first: NDArray[np.uint8], second: NDArray[np.uint8], first_size: int, second_size: int
) -> NDArray[np.int64]:
    """Count the pixels of two ``(H, W)`` uint8 planes by the values they have in both, ``(first_size, second_size)``.

    Pixels of larger values are not counted.
    """
    return _count_values([first, second], [first_size, second_size])


def _count_values(planes: Sequence[NDArray[np.uint8]], sizes: Sequence[int]) -> NDArray[np.int64]:
    """Count the pixels of planes by the values they have in all of them, an int64 array of shape ``sizes``."""
    counts = np.zeros(sizes, np.int64)
    rows = max(1, _EXACT_PIXELS // planes[0].shape[1])
    bounds = [float(bound) for size in sizes for bound in (0, size)]
    for top in range(0, planes[0].shape[0], rows):
        parts = [np.ascontiguousarray(plane[top : top + rows]) for plane in planes]
        found = cv2.calcHist(parts, list(range(len(parts))), None, list(sizes), bounds)
        counts += found.reshape(sizes).astype(np.int64)
    return counts


def count_classes(mask: NDArray[np.uint8], num_classes: int) -> tuple[NDArray[np.int64], int]:
    """Return the ``(K,)`` int64 pixels of each class, and the number of ignored pixels."""
    counts = _count_values([mask], [_VALUES])
    return counts[:num_classes], int(counts[IGNORE_INDEX])


def sum_by_class(mask: NDArray[np.uint8], values: NDArray[np.uint8], num_classes: int) -> NDArray[np.int64]:
    """Return the ``(K,)`` int64 sums of ``(H, W)`` uint8 values over the pixels of each class."""
    return count_pairs(mask, values, num_classes, _VALUES) @ np.arange(_VALUES)


def measure_boundaries(mask: NDArray[np.uint8]) -> int:
    """Return the length of all boundaries between classes of an ``(H, W)`` mask in px: neighbours that differ."""
    return int(np.count_nonzero(mask[1:] != mask[:-1]) + np.count_nonzero(mask[:, 1:] != mask[:, :-1]))


def count_components(mask: NDArray[np.uint8], num_classes: int) -> NDArray[np.int64]:
    """Return the ``(K,)`` int64 connected components of each class of an ``(H, W)`` mask.

    Pixels that touch at a corner are connected (8-connectivity, as objects are counted in panoptic segmentation).
    """
    counts = np.zeros(num_classes, np.int64)
    for class_id in np.flatnonzero(count_classes(mask, num_classes)[0]):
        of_class = (mask == class_id).view(np.uint8)
        left, top, width, height = cv2.boundingRect(of_class)
        there = of_class[top : top + height, left : left + width]
        depth = cv2.CV_16U if there.size < _SMALL_PIXELS else cv2.CV_32S  # of labels: half as wide is faster
        counts[class_id] = cv2.connectedComponents(there, connectivity=8, ltype=depth)[0] - 1
    return counts


def count_lasting(mask: NDArray[np.uint8], before: NDArray[np.uint8], num_classes: int) -> NDArray[np.int64]:
    """Return, ``(2, K)`` int64, the pixels of each class that had another class before, and those that had the same."""
    return count_pairs((mask == before).view(np.uint8), mask, 2, num_classes)


def median_frequency_weights(
    class_pixels: Sequence[int] | NDArray[np.int64], class_image_pixels: Sequence[int] | NDArray[np.int64]
) -> list[float | None]:
    """Return a weight per class: the median of all class frequencies over the class's own.

    A frequency is the class's share of the pixels of the images it occurs in (Eigen and Fergus, ICCV 2015, section
    6.3.2). A class that never occurs has no weight.
    """
    pairs = zip(map(int, class_pixels), map(int, class_image_pixels), strict=True)
    frequencies = [pixels / of_images if of_images else None for pixels, of_images in pairs]
    occurring = [value for value in frequencies if value]
    median = statistics.median(occurring) if occurring else None
    return [median / value if median and value else None for value in frequencies]


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassScore:
    """One class: pixels counted, and ``iou = tp / (tp + fp + fn)``, None when the class occurs nowhere."""

    tp: int
    fp: int
    fn: int
    iou: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """Ratios of one confusion matrix; None where no pixel defines them.

    ``miou`` is the mean over the classes whose IoU is defined; ``object_miou`` leaves out the background class;
    ``pixel_accuracy`` is the share of counted pixels that are right.
    """

    classes: tuple[ClassScore, ...]
    miou: float | None
    object_miou: float | None
    pixel_accuracy: float | None


def score(confusion: NDArray[np.int64] | Sequence[int], background: int | None = None) -> Scores:
    """Derive the scores of a ``(K, K)`` or flat ``(K * K,)`` confusion matrix."""
    flat = np.asarray(confusion, dtype=np.int64).ravel()
    size = round(len(flat) ** 0.5)
    matrix = flat.reshape(size, size)
    tp = matrix.diagonal()
    fp = matrix.sum(axis=0) - tp
    fn = matrix.sum(axis=1) - tp
    classes = tuple(
        ClassScore(tp=t, fp=p, fn=n, iou=t / (t + p + n) if t + p + n else None)
        for t, p, n in zip(tp.tolist(), fp.tolist(), fn.tolist(), strict=True)
    )
    total = int(matrix.sum())
    return Scores(
        classes=classes,
        miou=_mean([item.iou for item in classes]),
        object_miou=_mean([item.iou for class_id, item in enumerate(classes) if class_id != background]),
        pixel_accuracy=int(tp.sum()) / total if total else None,
    )


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None
