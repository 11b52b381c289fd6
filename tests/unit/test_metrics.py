import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_jaccard_index

from unet_ray.metrics import (
    ClassScore,
    count_classes,
    count_components,
    count_confusion,
    count_lasting,
    count_margins,
    measure_boundaries,
    median_frequency_weights,
    score,
    score_each,
    sum_by_class,
)
from unet_ray.schema import IGNORE_INDEX

Counts = NDArray[np.int64]
Mask = NDArray[np.uint8]

# TP, FP, FN and IoU per class as a published U-Net for street scenes reports them, for one batch of 16 images.
PUBLISHED = [
    (96121, 4868, 51077, 0.632),
    (375257, 47927, 6246, 0.874),
    (232483, 30382, 31860, 0.789),
    (9355, 5289, 13990, 0.327),
    (127484, 16921, 8389, 0.834),
    (18878, 1802, 982, 0.871),
    (13451, 14468, 5578, 0.402),
    (46815, 7075, 10610, 0.726),
]


def confusion_with_margins(rows: list[tuple[int, int, int, float]]) -> Counts:
    """Return a confusion matrix with these TP, FP and FN: each miss goes to the next class with FPs left to explain."""
    matrix = np.diag([tp for tp, _, _, _ in rows]).astype(np.int64)
    open_fp = {(class_id + 2) % len(rows): rows[(class_id + 2) % len(rows)][1] for class_id in range(len(rows))}
    for true_class, (_, _, fn, _) in enumerate(rows):
        for pred_class in open_fp:
            taken = min(fn, open_fp[pred_class])
            matrix[true_class, pred_class] += taken
            open_fp[pred_class] -= taken
            fn -= taken
    return matrix


def slow_confusion(true_mask: Mask, pred_mask: Mask, num_classes: int) -> Counts:
    counts = np.zeros((num_classes, num_classes), np.int64)
    for true_class, pred_class in zip(true_mask.ravel().tolist(), pred_mask.ravel().tolist(), strict=True):
        if true_class < num_classes:
            counts[true_class, pred_class] += 1
    return counts


@settings(max_examples=40)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 254), st.integers(0, 2**32 - 1))
def test_confusion_counts_pixels_by_true_row_and_predicted_column(
    height: int, width: int, num_classes: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    ids = np.array([*range(num_classes), IGNORE_INDEX], np.uint8)
    true_mask = rng.choice(ids, (height, width))
    pred_mask = rng.integers(num_classes, size=(height, width), dtype=np.uint8)
    found = count_confusion(true_mask, pred_mask, num_classes)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, slow_confusion(true_mask, pred_mask, num_classes))


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 8), st.sampled_from([0.0, 0.4, 0.95]), st.integers(0, 2**32 - 1))
def test_scores_are_those_of_torchmetrics_with_ignored_pixels_and_absent_classes(
    num_classes: int, ignored: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    occurring = rng.choice(num_classes, size=rng.integers(1, num_classes + 1), replace=False).astype(np.uint8)
    true_mask, pred_mask = rng.choice(occurring, (2, 20, 30))
    true_mask[rng.random(true_mask.shape) < ignored] = IGNORE_INDEX
    scores = score(count_confusion(true_mask, pred_mask, num_classes))
    masks = [torch.from_numpy(mask).long()[None] for mask in (pred_mask, true_mask)]
    of = {"num_classes": num_classes, "ignore_index": IGNORE_INDEX}
    ious = multiclass_jaccard_index(*masks, average="none", **of)
    np.testing.assert_allclose([item.iou or 0 for item in scores.classes], ious, atol=1e-6)
    assert scores.miou == pytest.approx(multiclass_jaccard_index(*masks, average="macro", **of).item(), abs=1e-6)
    accuracy = multiclass_accuracy(*masks, average="micro", **of)
    assert scores.pixel_accuracy == pytest.approx(accuracy.item(), abs=1e-6)


def test_ignored_and_unknown_true_pixels_are_not_counted() -> None:
    true_mask = np.array([[0, 1, 2, 3, 255]], np.uint8)
    pred_mask = np.array([[0, 0, 1, 1, 1]], np.uint8)
    assert count_confusion(true_mask, pred_mask, 2).tolist() == [[1, 0], [1, 0]]
    assert count_confusion(np.full((2, 2), 255, np.uint8), np.zeros((2, 2), np.uint8), 2).sum() == 0


def test_views_that_are_not_contiguous_are_counted() -> None:
    rng = np.random.default_rng(0)
    masks = rng.integers(3, size=(2, 30, 40), dtype=np.uint8)
    true_mask, pred_mask = masks[0, ::2, ::3], masks[1].T[::3, ::2].T
    np.testing.assert_array_equal(count_confusion(true_mask, pred_mask, 3), slow_confusion(true_mask, pred_mask, 3))


def test_counts_stay_exact_beyond_what_float32_can_count() -> None:
    true_mask = np.zeros((4100, 4100), np.uint8)  # 16,810,000 pixels, above 2 ** 24
    true_mask[-1, -1] = 1
    assert count_confusion(true_mask, np.zeros_like(true_mask), 2).tolist() == [[4100**2 - 1, 0], [1, 0]]


def test_classes_and_ignored_pixels_are_counted() -> None:
    mask = np.array([[0, 2, 2], [255, 255, 255]], np.uint8)
    pixels, ignored = count_classes(mask, 4)
    assert (pixels.tolist(), ignored) == ([1, 0, 2, 0], 3)
    assert pixels.dtype == np.int64
    assert isinstance(ignored, int)


def test_scores_of_a_small_matrix_are_those_computed_by_hand() -> None:
    scores = score(np.array([[5, 1, 0], [2, 8, 0], [0, 4, 0]], np.int64), background=0)
    assert scores.classes == (
        ClassScore(tp=5, fp=2, fn=1, iou=5 / 8),
        ClassScore(tp=8, fp=5, fn=2, iou=8 / 15),
        ClassScore(tp=0, fp=0, fn=4, iou=0.0),
    )
    assert scores.miou == pytest.approx((5 / 8 + 8 / 15 + 0) / 3, abs=1e-15)
    assert scores.object_miou == pytest.approx((8 / 15 + 0) / 2, abs=1e-15)
    assert scores.pixel_accuracy == 13 / 20


def test_the_published_table_is_reproduced() -> None:
    confusion = confusion_with_margins(PUBLISHED)
    scores = score(confusion)
    assert [(item.tp, item.fp, item.fn) for item in scores.classes] == [row[:3] for row in PUBLISHED]
    assert [round(item.iou or 0, 3) for item in scores.classes] == [row[3] for row in PUBLISHED]
    assert round(scores.miou or 0, 3) == 0.682
    assert round(scores.pixel_accuracy or 0, 3) == 0.877
    assert confusion.sum() == 16 * 256 * 256


def test_a_class_that_occurs_nowhere_has_no_iou_and_is_left_out_of_the_mean() -> None:
    scores = score([4, 0, 0, 0, 0, 0, 1, 0, 3])
    assert [item.iou for item in scores.classes] == [4 / 5, None, 3 / 4]
    assert scores.miou == pytest.approx((4 / 5 + 3 / 4) / 2)


def test_a_class_that_is_only_ever_mistaken_scores_zero_and_counts_in_the_mean() -> None:
    scores = score([[4, 1], [0, 0]])  # type: ignore[list-item]
    assert [item.iou for item in scores.classes] == [4 / 5, 0.0]
    assert scores.miou == pytest.approx(2 / 5)


def test_nothing_counted_gives_no_score_at_all() -> None:
    scores = score(np.zeros((3, 3), np.int64), background=1)
    assert (scores.miou, scores.object_miou, scores.pixel_accuracy) == (None, None, None)
    assert all(item.iou is None for item in scores.classes)


def test_object_miou_is_undefined_where_only_background_occurs() -> None:
    scores = score([7, 0, 0, 0], background=0)
    assert (scores.miou, scores.object_miou) == (1.0, None)


def test_object_miou_is_miou_where_there_is_no_background() -> None:
    scores = score([5, 1, 2, 8])
    assert scores.object_miou == scores.miou


def test_a_flat_matrix_scores_as_a_square_one() -> None:
    matrix = np.arange(16, dtype=np.int64).reshape(4, 4)
    assert score(matrix.ravel().tolist(), background=2) == score(matrix, background=2)


def test_counts_beyond_float_precision_are_summed_exactly() -> None:
    huge = 2**60 + 1
    assert score([huge, 1, 0, 1]).classes[0] == ClassScore(tp=huge, fp=0, fn=1, iou=huge / (huge + 1))


def test_dice_precision_and_recall_are_those_computed_by_hand_and_undefined_where_nothing_defines_them() -> None:
    first, second, third, fourth = score([[5, 1, 0, 0], [2, 8, 0, 0], [0, 4, 0, 0], [0, 0, 0, 0]]).classes  # type: ignore[list-item]
    assert (first.dice, first.precision, first.recall) == (10 / 13, 5 / 7, 5 / 6)
    assert (second.dice, second.precision, second.recall) == (16 / 23, 8 / 13, 8 / 10)
    assert (third.dice, third.precision, third.recall) == (0.0, None, 0.0)  # never predicted
    assert (fourth.dice, fourth.precision, fourth.recall) == (None, None, None)
    assert first.dice == pytest.approx(2 * (first.iou or 0) / (1 + (first.iou or 0)))


@pytest.mark.parametrize("background", [None, 0, 2])
def test_many_matrices_are_scored_as_each_of_them_is(background: int | None) -> None:
    confusions = np.random.default_rng(0).integers(9, size=(30, 3, 3))
    confusions[:10, 1] = confusions[:10, :, 1] = 0
    confusions[5:7] = 0
    confusions[7] = [[4, 0, 0], [0, 0, 0], [0, 0, 0]]
    each = score_each(count_margins(confusions), background)
    for number, confusion in enumerate(confusions):
        one = score(confusion, background)
        for name in ("miou", "object_miou", "pixel_accuracy"):
            found, expected = getattr(each, name)[number], getattr(one, name)
            assert np.isnan(found) if expected is None else found == pytest.approx(expected, abs=1e-15)


def test_margins_add_up() -> None:
    confusions = np.random.default_rng(1).integers(9, size=(5, 3, 3))
    assert count_margins(confusions).sum(0).tolist() == count_margins(confusions.sum(0)[None])[0].tolist()


@pytest.mark.parametrize(
    ("class_pixels", "class_image_pixels", "weights"),
    [
        ([10, 20, 40], [100, 100, 100], [2, 1, 0.5]),
        ([10, 0, 40], [100, 0, 100], [2.5, None, 0.625]),
        ([0, 0], [0, 0], [None, None]),
    ],
)
def test_a_rare_class_weighs_more_and_one_that_never_occurs_nothing(
    class_pixels: list[int], class_image_pixels: list[int], weights: list[float | None]
) -> None:
    assert median_frequency_weights(class_pixels, class_image_pixels) == weights


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 3)))
def test_sums_by_class_and_boundaries_are_what_pixels_say_one_by_one(mask: NDArray[np.uint8]) -> None:
    values = (np.arange(mask.size) * 37 % 256).astype(np.uint8).reshape(mask.shape)
    height, width = mask.shape
    sums, length = [0] * 4, 0
    for y in range(height):
        for x in range(width):
            sums[mask[y, x]] += int(values[y, x])
            length += y + 1 < height and mask[y, x] != mask[y + 1, x]
            length += x + 1 < width and mask[y, x] != mask[y, x + 1]
    assert sum_by_class(mask, values, 4).tolist() == sums
    assert measure_boundaries(mask) == length


def count_components_by_flooding(mask: NDArray[np.uint8]) -> list[int]:
    counts, left = [0] * 4, set(np.ndindex(mask.shape))
    while left:
        y, x = left.pop()
        counts[mask[y, x]] += 1
        front = [(y, x)]
        while front:
            y, x = front.pop()
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            same = {place for place in near if mask[place] == mask[y, x]}
            left -= same
            front += same
    return counts


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 3)))
def test_components_are_those_that_flooding_finds(mask: NDArray[np.uint8]) -> None:
    assert count_components(mask, 4).tolist() == count_components_by_flooding(mask)


def test_pixels_that_keep_their_class_and_those_that_change_it_are_all_pixels() -> None:
    before = np.array([[0, 0, 1], [1, 2, 2]], np.uint8)
    mask = np.array([[0, 1, 1], [0, 2, 1]], np.uint8)
    assert count_lasting(mask, before, 3).tolist() == [[1, 2, 0], [1, 1, 1]]
