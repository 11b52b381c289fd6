"""The mIoU that a mask is expected to have, told without its truth: from its confidence, held to frames with truth.

In a calibrated network a pixel of probability p is right with probability p. So of n pixels of a class whose
probabilities sum to c, c are expected to be right; where as many pixels are missed as are wrong, that is an IoU of
c / (2 n - c). The mean over the classes of a mask is compared with the true mIoU of the frames of a validation, and a
straight line through them, by least squares, tells one from the other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FULL = 255  # of a probability of 1
_STEPS = 10_000  # what mIoUs are rounded to, so that sums over frames are exact in any order
_FEWEST_FRAMES = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimator:
    """What tells the mIoU of a frame from `confident_miou`: a line, in units of mIoU.

    ``error`` is the root of the mean square of what it was off over the ``frames`` that it was fitted to.
    """

    intercept: float
    slope: float
    error: float
    frames: int

    def estimate(self, class_pixels: Sequence[int], confidence_sum: Sequence[int]) -> float:
        """Return the expected mIoU of a frame, in 0..1."""
        found = self.intercept + self.slope * confident_miou(class_pixels, confidence_sum)
        return min(1.0, max(0.0, found))

    @staticmethod
    def from_json(document: Mapping[str, Any] | None) -> "Estimator | None":
        """Return the estimator that ``dataclasses.asdict`` and JSON made a document of."""
        return None if document is None else Estimator(**document)


def confident_miou(class_pixels: Sequence[int], confidence_sum: Sequence[int]) -> float:
    """Return the mIoU that the confidence of a mask speaks of.

    Args:
        class_pixels: ``(K,)`` pixels of each class of the mask, some.
        confidence_sum: ``(K,)`` sums over them of their probability in 1/255.
    """
    pairs = zip(class_pixels, confidence_sum, strict=True)
    ious = [confidence / (2 * _FULL * pixels - confidence) for pixels, confidence in pairs if pixels]
    return sum(ious) / len(ious)


def count_frame(confident: float, true: float) -> NDArray[np.int64]:
    """Return what `fit` needs of a frame's two mIoUs, ``(6,)`` int64 that add up over frames."""
    x, y = round(confident * _STEPS), round(true * _STEPS)
    return np.array([1, x, y, x * x, y * y, x * y], np.int64)


def fit(counts: NDArray[np.int64]) -> Estimator | None:
    """Fit an estimator to the sum of `count_frame` over frames; None where they are too few, or all alike."""
    frames, x, y, xx, yy, xy = counts.tolist()
    spread = frames * xx - x * x
    if frames < _FEWEST_FRAMES or not spread:
        return None
    slope = (frames * xy - x * y) / spread
    missed = max(0.0, (frames * yy - y * y) - slope * (frames * xy - x * y)) / frames / (frames - 2)
    return Estimator(
        intercept=(y - slope * x) / (frames * _STEPS), slope=slope, error=missed**0.5 / _STEPS, frames=frames
    )
