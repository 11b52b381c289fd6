import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from unet_ray.config import LegacyProject
from unet_ray.metrics import Scores, count_classes, count_confusion, score
from unet_ray.report.legacy import Step, score_as
from unet_ray.schema import IGNORE_INDEX

CLASSES = 4
Mask = NDArray[np.uint8]


def pairs(count: int, height: int = 6, width: int = 9, largest: int = CLASSES) -> list[tuple[Mask, Mask]]:
    rng = np.random.default_rng(3)
    found = []
    for _ in range(count):
        true_mask = rng.integers(largest, size=(height, width), dtype=np.uint8)
        pred_mask = np.where(rng.random((height, width)) < 0.6, true_mask, rng.integers(CLASSES, size=(height, width)))
        true_mask[rng.random((height, width)) < 0.2] = IGNORE_INDEX
        found.append((true_mask, pred_mask.astype(np.uint8)))
    return found


def rows_of(masks: list[tuple[Mask, Mask]]) -> pa.Table:
    """Return the rows, the last first: a table's parts may come in any order."""
    rows = [
        {
            "row_id": row_id,
            "confusion": count_confusion(true_mask, pred_mask, CLASSES).ravel().tolist(),
            "class_pixels": count_classes(pred_mask, CLASSES)[0].tolist(),
            "height": true_mask.shape[0],
            "width": true_mask.shape[1],
        }
        for row_id, (true_mask, pred_mask) in enumerate(masks)
    ]
    return pa.Table.from_pylist(rows[::-1])


def ious_of(true: Mask, pred: Mask, num_classes: int) -> list[float]:
    """The IoU of each class that occurs, from pixels: what the projects' own loops do."""
    unions = [((true == c) | (pred == c)).sum() for c in range(num_classes)]
    return [((true == c) & (pred == c)).sum() / union for c, union in enumerate(unions) if union]


def flat(masks: list[tuple[Mask, Mask]]) -> tuple[Mask, Mask]:
    true, pred = (np.concatenate([pair[which].ravel() for pair in masks]) for which in (0, 1))
    return np.where(true == IGNORE_INDEX, np.uint8(0), true), pred


def last(project: LegacyProject, rows: pa.Table) -> Scores:
    return score_as(project, [rows.slice(0, 3), rows.slice(3)], background=0)[-1].scores


@pytest.mark.parametrize("project", ["project000", "project002", "project003"])
def test_the_first_step_is_the_score_as_counted_here(project: LegacyProject) -> None:
    masks = pairs(20)
    counted = sum(count_confusion(*pair, CLASSES) for pair in masks)
    expected = Step(rule="as counted here", scores=score(np.asarray(counted), 0))
    assert score_as(project, [rows_of(masks)], background=0)[0] == expected


def test_project000_scores_one_batch_with_void_as_class_0() -> None:
    masks = pairs(20, largest=3)
    true, pred = flat(masks[:16])
    assert last("project000", rows_of(masks)).miou == pytest.approx(np.mean(ious_of(true, pred, 3)))
    assert last("project000", rows_of(masks)).pixel_accuracy == pytest.approx((true == pred).mean())


def test_project002_counts_void_and_padding_as_background() -> None:
    masks = pairs(5, height=6, width=9) + pairs(5, height=8, width=4)
    squares = []
    for true_mask, pred_mask in masks:
        side = max(true_mask.shape)
        square = np.zeros((2, side, side), np.uint8)
        for plane, mask in zip(square, (true_mask, pred_mask), strict=True):
            plane[: mask.shape[0], : mask.shape[1]] = mask
        squares.append((square[0], square[1]))
    true, pred = flat(squares)
    ious = ious_of(true, pred, CLASSES)
    found = last("project002", rows_of(masks))
    assert found.miou == pytest.approx(np.mean(ious))
    assert found.object_miou == pytest.approx(np.mean(ious[1:]))
    assert found.pixel_accuracy == pytest.approx((true == pred).mean())


def test_project003_has_an_accuracy_alone() -> None:
    masks = pairs(7)
    true, pred = flat(masks)
    found = last("project003", rows_of(masks))
    assert found.pixel_accuracy == pytest.approx((true == pred).mean())
    assert (found.miou, found.object_miou) == (None, None)


def test_frames_without_truth_are_left_out_and_none_at_all_gives_no_step() -> None:
    rows = rows_of(pairs(3))
    blind = pa.Table.from_pylist(
        [{"row_id": 9, "confusion": None, "class_pixels": [54, 0, 0, 0], "height": 6, "width": 9}], schema=rows.schema
    )
    assert score_as("project002", [blind, pa.concat_tables([rows, blind])], 0) == score_as("project002", [rows], 0)
    assert score_as("project002", [blind], 0) == ()
