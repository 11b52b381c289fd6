"""Scores as three U-Net projects count them, so that their published numbers can be compared with, and why they differ.

From the counts of predictions alone: which classes the pixels without a label were given is what was predicted less
what the confusion matrix has. project000 is a U-Net for Cityscapes in TensorFlow, project002 UNet-keras for PASCAL VOC,
project003 labels by K-Means; what they do was read in their code.
"""

import math
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import replace
from operator import itemgetter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from unet_ray.config import LegacyProject
from unet_ray.metrics import Scores, score
from unet_ray.report.content import Step

COLUMNS = ("row_id", "confusion", "class_pixels", "height", "width")
"""Columns of predictions that the scores are made of."""

_BATCH = 16  # images that project000 scores


def score_as(project: LegacyProject, parts: Iterable[pa.Table], background: int | None) -> tuple[Step, ...]:
    """Return the scores as counted here, and with each rule of a project after the other.

    Args:
        project: Whose rules.
        parts: Predictions with `COLUMNS`, in any order; rows without truth are left out.
        background: Class that object scores leave out.

    Returns:
        One step at least; the last has the number to hold against the project's. Empty without truth.
    """
    tally = _Tally()
    for part in parts:
        rows = part.filter(pc.is_valid(part["confusion"]))
        if len(rows):
            tally.add(rows)
    return tuple(_steps(project, tally, background)) if tally.batch else ()


class _Tally:
    """What is known of all rows so far."""

    def __init__(self) -> None:
        self.labelled = self.all_pixels = np.zeros((), np.int64)
        self.padding = 0
        self.batch: list[tuple[int, NDArray[np.int64]]] = []

    def add(self, rows: pa.Table) -> None:
        """Add rows with truth."""
        confusion = _stack(rows["confusion"])
        num_classes = math.isqrt(confusion.shape[1])
        confusion = confusion.reshape(-1, num_classes, num_classes)
        every = confusion.copy()
        every[:, 0] += _stack(rows["class_pixels"]) - confusion.sum(axis=1)  # pixels without a label are of class 0
        self.labelled = self.labelled + confusion.sum(axis=0)
        self.all_pixels = self.all_pixels + every.sum(axis=0)
        height, width = (rows[name].to_numpy().astype(np.int64) for name in ("height", "width"))
        self.padding += int((np.maximum(height, width) ** 2 - height * width).sum())
        first = zip(rows["row_id"].to_pylist(), every, strict=True)
        self.batch = sorted([*self.batch, *first], key=itemgetter(0))[:_BATCH]


def _steps(project: LegacyProject, tally: _Tally, background: int | None) -> Iterator[Step]:
    yield Step(rule="as counted here", scores=score(tally.labelled, background))
    everything = score(tally.all_pixels, background)
    match project:
        case "project000":
            yield Step(rule="void counted as class 0", scores=everything)
            rule = f"the first {_BATCH} images alone, no class above the largest of their truth"
            yield Step(rule=rule, scores=_score_batch(np.sum([confusion for _, confusion in tally.batch], axis=0)))
        case "project002":
            yield Step(rule="void counted as class 0", scores=everything)
            padded = tally.all_pixels.copy()
            padded[0, 0] += tally.padding
            rule = "padding to a square counted as class 0, all of it right"
            yield Step(rule=rule, scores=score(padded, background))
        case "project003":
            rule = "void counted as class 0; accuracy alone"
            yield Step(rule=rule, scores=replace(everything, miou=None, object_miou=None))


def _score_batch(confusion: NDArray[np.int64]) -> Scores:
    """Return the scores of the classes up to the largest true one; nothing is said of objects."""
    scores = score(confusion)
    largest = int(np.flatnonzero(confusion.sum(axis=1)).max(initial=0))
    classes = scores.classes[: largest + 1]
    known = [one.iou for one in classes if one.iou is not None]
    return replace(scores, classes=classes, miou=statistics.fmean(known) if known else None, object_miou=None)


def _stack(lists: pa.ChunkedArray) -> NDArray[np.int64]:
    """Return lists of one length as the rows of an array."""
    flat: NDArray[np.int64] = lists.combine_chunks().flatten().to_numpy()
    return flat.reshape(len(lists), -1)
