"""Confusion counts and the ratios derived from them: the one definition of IoU.

Counts are integers and are added; a ratio is computed once, at the end, and is None where it is undefined.
The confusion matrix has the true class as row and the predicted class as column.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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

    @property
    def dice(self) -> float | None:
        """``2 tp / (2 tp + fp + fn)``, the F1 score; None when the class occurs nowhere."""
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def precision(self) -> float | None:
        """Share of the pixels predicted as the class that are of it; None when there are none."""
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float | None:
        """Share of the pixels of the class that were found; None when there are none."""
        return _ratio(self.tp, self.tp + self.fn)


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
        ClassScore(tp=t, fp=p, fn=n, iou=_ratio(t, t + p + n))
        for t, p, n in zip(tp.tolist(), fp.tolist(), fn.tolist(), strict=True)
    )
    total = int(matrix.sum())
    return Scores(
        classes=classes,
        miou=_mean([item.iou for item in classes]),
        object_miou=_mean([item.iou for class_id, item in enumerate(classes) if class_id != background]),
        pixel_accuracy=_ratio(int(tp.sum()), total),
    )


def count_margins(confusion_NKK: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return all that the scores of each of N confusion matrices depend on, ``(N, 3, K)`` int64, which adds up.

    They are the pixels of each class that are right, those of the truth, and those predicted.
    """
    right_NK = confusion_NKK.diagonal(axis1=1, axis2=2)
    return np.stack([right_NK, confusion_NKK.sum(2), confusion_NKK.sum(1)], axis=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class EachScores:
    """Ratios of each of N confusion matrices, as `Scores` has them of one: ``(N,)`` float64, NaN where undefined."""

    miou: NDArray[np.float64]
    object_miou: NDArray[np.float64]
    pixel_accuracy: NDArray[np.float64]


def score_each(margins_N3K: NDArray[np.int64], background: int | None = None) -> EachScores:
    """Derive the scores of N confusion matrices from what `count_margins` made of them, or sums of it."""
    right_NK, true_NK, predicted_NK = np.moveaxis(margins_N3K, 1, 0)
    iou_NK = ratios(right_NK, true_NK + predicted_NK - right_NK)
    objects_NK = iou_NK if background is None else np.delete(iou_NK, background, axis=1)
    return EachScores(
        miou=_mean_of_defined(iou_NK),
        object_miou=_mean_of_defined(objects_NK),
        pixel_accuracy=ratios(right_NK.sum(1), true_NK.sum(1)),
    )


def _mean_of_defined(ratios_NK: NDArray[np.float64]) -> NDArray[np.float64]:
    return ratios(np.nansum(ratios_NK, axis=1), np.count_nonzero(~np.isnan(ratios_NK), axis=1))


def ratios(counts: NDArray[Any], wholes: NDArray[Any]) -> NDArray[np.float64]:
    """Return counts over wholes of the same shape, float64, NaN where the whole is nothing."""
    found = np.full(counts.shape, np.nan)
    np.divide(counts, wholes, out=found, where=wholes > 0)
    return found


def _ratio(count: int, whole: int) -> float | None:
    return count / whole if whole else None


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None
