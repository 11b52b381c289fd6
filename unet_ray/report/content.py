"""What a report says: the data that the page, the figures and the table are drawn from."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from unet_ray.calibration import Calibration
from unet_ray.drift import Drift

Colour: TypeAlias = tuple[int, int, int]
PanelKind: TypeAlias = Literal["best", "worst", "uncertain", "random"]
History: TypeAlias = tuple[Mapping[str, float | int | None], ...]


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """One class and its pixel counts over all frames; ``iou`` is None where the class never occurs.

    ``predicted`` pixels, with truth or without it, were given this class, ``confidence`` is their mean probability of
    it, None where there are none.
    """

    class_id: int
    name: str
    colour: Colour
    tp: int
    fp: int
    fn: int
    iou: float | None
    predicted: int
    confidence: float | None


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One frame to look at: ``image`` is RGB (H, W, 3), the masks (H, W), where 255 is ignored.

    ``true_mask`` and ``miou`` are None for a frame without truth. ``confidence`` is the mean over its pixels.
    """

    kind: PanelKind
    image_id: str
    miou: float | None
    confidence: float
    image: NDArray[np.uint8]
    true_mask: NDArray[np.uint8] | None
    pred_mask: NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Quarantined:
    """One input that could not be used, and why."""

    image_id: str
    error_code: str
    error_message: str


@dataclass(frozen=True, kw_only=True)
class ReportContent:
    """Everything on the page, in the order in which it is read.

    ``scores`` are ratios in 0..1, None where undefined. ``confusion`` counts pixels, (K, K) with the true
    class down and the predicted class across, in the order of ``classes``; all zero without truth, as are the bins of
    ``calibration``. ``history`` has one mapping per epoch, of which the page draws ``epoch``, ``train_loss``,
    ``val_loss``, ``miou``, ``pixel_accuracy``, ``lr`` and ``samples_per_s`` and sums ``skipped_steps``; any may be
    missing or None. ``quarantined`` may be the first few of ``quarantined_total``.
    """

    title: str
    facts: tuple[tuple[str, str], ...]
    scores: tuple[tuple[str, float | None], ...]
    classes: tuple[ClassRow, ...]
    confusion: NDArray[np.int64]
    calibration: Calibration
    drift: Drift | None
    history: History
    panels: tuple[Panel, ...]
    quarantined: tuple[Quarantined, ...]
    quarantined_total: int
    notes: tuple[str, ...]


def series(history: History, key: str) -> NDArray[np.float64]:
    """Return one value per row of the history; missing, None and non-finite values are NaN."""
    values = (row.get(key) for row in history)
    finite = [value if value is not None and math.isfinite(value) else math.nan for value in values]
    return np.array(finite, dtype=np.float64)


def epochs(history: History) -> NDArray[np.float64]:
    """Return the epoch of each row of the history, its place counted from 1 where the row does not say."""
    stated = series(history, "epoch")
    return np.where(np.isnan(stated), np.arange(1, len(history) + 1), stated)
