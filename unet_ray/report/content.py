"""What a report says: the data that the page, the figures and the table are drawn from."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from unet_ray.calibration import Calibration
from unet_ray.drift import Drift
from unet_ray.intervals import Interval
from unet_ray.metrics import ClassScore, Scores

Colour: TypeAlias = tuple[int, int, int]
PanelKind: TypeAlias = Literal["best", "worst", "uncertain", "random"]
History: TypeAlias = tuple[Mapping[str, float | int | None], ...]
Facts: TypeAlias = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Headline:
    """A score in 0..1, None where undefined, and how certain it is: over the frames, and over so many ``groups``."""

    name: str
    value: float | None
    over_frames: Interval | None = None
    over_groups: Interval | None = None
    groups: int = 0


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """One class and its score over all frames.

    ``predicted`` pixels, with truth or without it, were given this class, ``confidence`` is their mean probability of
    it, None where there are none.
    """

    class_id: int
    name: str
    colour: Colour
    score: ClassScore
    predicted: int
    confidence: float | None


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One frame to look at: ``image`` is RGB (H, W, 3), the masks (H, W), where 255 is ignored.

    ``true_mask`` and ``miou`` are None for a frame without truth. ``confidence`` is the mean over its pixels,
    ``confidence_map`` the (H, W) uint8 probability in 1/255, None where it was not stored.
    """

    kind: PanelKind
    image_id: str
    miou: float | None
    confidence: float
    image: NDArray[np.uint8]
    true_mask: NDArray[np.uint8] | None
    pred_mask: NDArray[np.uint8]
    confidence_map: NDArray[np.uint8] | None = None


@dataclass(frozen=True, kw_only=True)
class Strip:
    """The frames of a sequence in their order, in at most 400 columns: (C,) float64, the lowest value of each.

    NaN where no frame of a column has a value. ``lowest`` says which frame has the lowest of all, None without any.
    """

    values: NDArray[np.float64]
    lowest: str | None


@dataclass(frozen=True, kw_only=True)
class SequenceRow:
    """A group of frames; ratios in 0..1 are None where undefined, ``group`` is empty where it is unknown.

    ``frames`` include the ``quarantined``. ``flicker`` is the share of pixels with another class than in the frame
    before. The ``strip`` has the measure of the `Sequences`.
    """

    group: str
    frames: int
    quarantined: int
    miou: float | None
    confidence: float | None
    expected_miou: float | None
    flicker: float | None
    strip: Strip


@dataclass(frozen=True, kw_only=True)
class Sequences:
    """The first few of ``total`` groups, the worst first; strips show ``measure``, frame by frame."""

    rows: tuple[SequenceRow, ...]
    total: int
    measure: Literal["mIoU", "confidence"]


@dataclass(frozen=True, kw_only=True)
class Step:
    """A way of counting, one rule more than the step before, and the scores by it; None for what it does not have."""

    rule: str
    scores: Scores


@dataclass(frozen=True, kw_only=True)
class JobStage:
    """What a stage of the last run took; ``busy`` is the share of their time that its ``processes`` were."""

    name: str
    processes: int
    seconds: float
    cpu_seconds: float
    busy: float
    bytes_read: int
    outlasted: int


@dataclass(frozen=True, kw_only=True)
class Job:
    """The last run that wrote to the predictions."""

    facts: Facts
    stages: tuple[JobStage, ...]


@dataclass(frozen=True, kw_only=True)
class Quarantined:
    """One input that could not be used, and why."""

    image_id: str
    error_code: str
    error_message: str


@dataclass(frozen=True, kw_only=True)
class ReportContent:
    """Everything on the page, in the order in which it is read.

    ``metric_card`` says how the scores were counted; it is empty without truth. ``legacy`` has the scores as another
    project counts them, if that was asked for. ``confusion`` counts pixels, (K, K)
    with the true class down and the predicted class across, in the order of ``classes``; all zero without truth, as are
    the bins of ``calibration``. ``history`` has one mapping per epoch, of which the page draws ``epoch``,
    ``train_loss``, ``val_loss``, ``miou``, ``pixel_accuracy``, ``lr`` and ``samples_per_s`` and sums
    ``skipped_steps``; any may be missing or None. ``quarantined`` may be the first few of ``quarantined_total``.
    """

    title: str
    headlines: tuple[Headline, ...]
    metric_card: Facts
    facts: Facts
    job: Job | None
    history: History
    classes: tuple[ClassRow, ...]
    legacy: tuple[Step, ...]
    confusion: NDArray[np.int64]
    calibration: Calibration
    sequences: Sequences
    drift: Drift | None
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
