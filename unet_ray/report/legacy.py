"""Scores as three U-Net projects count them, so that their published numbers can be compared with, and why they differ.

From the counts of predictions alone: which classes the pixels without a label were given is what was predicted less
what the confusion matrix has. project000 is a U-Net for Cityscapes in TensorFlow, project002 UNet-keras for PASCAL VOC,
project003 labels by K-Means; what they do was read in their code.
"""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from unet_ray.config import LegacyProject
from unet_ray.metrics import Scores, score

COLUMNS = ("row_id", "confusion", "class_pixels", "height", "width")
"""Columns of predictions that the scores are made of."""

_BATCH = 16  # images that project000 scores


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One rule more than the step before, and the scores with it; those that a project does not have are None."""

    rule: str
    scores: Scores


def score_as(project: LegacyProject, rows: pa.Table, background: int | None) -> tuple[Step, ...]:
    """Return the scores as counted here, and with each rule of a project after the other.

    Args:
        project: Whose rules.
        rows: ok rows of predictions, with `COLUMNS`; those without truth are left out.
        background: Class that object scores leave out.

    Returns:
        One step at least; the last has the number to hold against the project's. Empty without truth.
    """
    rows = rows.filter(pc.is_valid(rows["confusion"])).sort_by("row_id")
    if not len(rows):
        return ()
    return tuple(_steps(project, rows, background))


def _steps(project: LegacyProject, rows: pa.Table, background: int | None) -> Iterator[Step]:
    yield Step(rule="as counted here", scores=score(_labelled(rows), background))
    match project:
        case "project000":
            yield Step(rule="void counted as class 0", scores=score(_all_pixels(rows), background))
            rule = f"the first {_BATCH} images alone, no class above the largest of their truth"
            yield Step(rule=rule, scores=_score_batch(_all_pixels(rows.slice(0, _BATCH))))
        case "project002":
            confusion = _all_pixels(rows)
            yield Step(rule="void counted as class 0", scores=score(confusion, background))
            confusion[0, 0] += _padding(rows)
            rule = "padding to a square counted as class 0, all of it right"
            yield Step(rule=rule, scores=score(confusion, background))
        case "project003":
            scores = score(_all_pixels(rows), background)
            rule = "void counted as class 0; accuracy alone"
            yield Step(rule=rule, scores=replace(scores, miou=None, object_miou=None))


def _labelled(rows: pa.Table) -> NDArray[np.int64]:
    """Return the confusion matrix of all rows, ``(K, K)`` int64."""
    num_classes = len(rows["class_pixels"][0])
    return _sum(rows["confusion"]).reshape(num_classes, num_classes)


def _all_pixels(rows: pa.Table) -> NDArray[np.int64]:
    """Return the same with pixels that have no label as true pixels of class 0."""
    confusion = _labelled(rows)
    confusion[0] += _sum(rows["class_pixels"]) - confusion.sum(axis=0)
    return confusion


def _score_batch(confusion: NDArray[np.int64]) -> Scores:
    """Return the scores of the classes up to the largest true one; nothing is said of objects."""
    scores = score(confusion)
    largest = int(np.flatnonzero(confusion.sum(axis=1)).max(initial=0))
    classes = scores.classes[: largest + 1]
    known = [one.iou for one in classes if one.iou is not None]
    return replace(scores, classes=classes, miou=statistics.fmean(known) if known else None, object_miou=None)


def _padding(rows: pa.Table) -> int:
    """Return the pixels that frames lack to be squares, at their own size."""
    height, width = (rows[name].to_numpy().astype(np.int64) for name in ("height", "width"))
    return int((np.maximum(height, width) ** 2 - height * width).sum())


def _sum(lists: pa.ChunkedArray) -> NDArray[np.int64]:
    """Return the sum of lists of one length, ``(length,)`` int64."""
    total = np.zeros(len(lists[0]), np.int64)
    for chunk in lists.chunks:
        total += chunk.flatten().to_numpy().reshape(len(chunk), -1).sum(axis=0)
    return total
