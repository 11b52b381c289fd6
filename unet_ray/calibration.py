"""How far a network's confidence can be believed: counts by confidence, and the expected calibration error.

After Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 2: labelled pixels are put into bins of
equal width by the probability of their class; in a calibrated network the share of a bin that is right is its mean
probability.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unet_ray.metrics import count_pairs

BINS = 15
_LEVELS = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Bin:
    """The pixels of one bin: how many, the share that is right, and their mean probability; None without pixels."""

    pixels: int
    accuracy: float | None
    confidence: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """The bins, least confidence first, and the expected calibration error, None without labelled pixels."""

    bins: tuple[Bin, ...]
    error: float | None


def count_calibration(
    true_mask: NDArray[np.uint8], pred_mask: NDArray[np.uint8], confidence: NDArray[np.uint8], num_classes: int
) -> NDArray[np.int64]:
    """Count labelled pixels by confidence.

    Args:
        true_mask: ``(H, W)`` uint8 class ids; 255 and anything >= ``num_classes`` is not counted.
        pred_mask: ``(H, W)`` uint8 class ids.
        confidence: ``(H, W)`` uint8 probability of the predicted class in 1/255.
        num_classes: K.

    Returns:
        ``(3, 15)`` int64: pixels, those that are right, and the sum of their confidence, by fifteenth of confidence.
    """
    outcome = np.where(true_mask < num_classes, true_mask == pred_mask, np.uint8(2))  # wrong, right, not counted
    wrong, right = count_pairs(outcome, confidence, 2, _LEVELS)
    levels = np.arange(_LEVELS)
    first_of_bins = [0, *range(_LEVELS // BINS + 1, _LEVELS - 1, _LEVELS // BINS)]  # 0..17, 18..34, ..., 239..255
    by_level = np.stack([wrong + right, right, (wrong + right) * levels])
    return np.add.reduceat(by_level, first_of_bins, axis=1)


def calibrate(counts: NDArray[np.int64] | Sequence[int]) -> Calibration:
    """Derive the ratios of ``(3, 15)`` or flat ``(45,)`` counts; the error is Guo et al.'s equation 3."""
    pixels, right, confidence = np.asarray(counts, np.int64).reshape(3, BINS).tolist()
    bins = tuple(
        Bin(pixels=n, accuracy=r / n if n else None, confidence=c / (255 * n) if n else None)
        for n, r, c in zip(pixels, right, confidence, strict=True)
    )
    gaps = sum(abs(255 * r - c) for r, c in zip(right, confidence, strict=True))
    return Calibration(bins=bins, error=gaps / (255 * sum(pixels)) if sum(pixels) else None)
