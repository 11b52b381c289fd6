import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional.classification import multiclass_calibration_error

from unet_ray.calibration import BINS, Bin, calibrate, count_calibration


@given(st.integers(0, 2**32), st.integers(2, 7), st.floats(0, 1))
def test_the_error_is_that_of_torchmetrics(seed: int, num_classes: int, skill: float) -> None:
    rng = np.random.default_rng(seed)
    levels = np.array([level for level in range(129, 255) if level % 17], np.uint8)  # above 1/2, on no bound of a bin
    shape = (9, 11)
    true_mask = rng.integers(num_classes, size=shape, dtype=np.uint8)
    pred_mask = np.where(rng.random(shape) < skill, true_mask, rng.integers(num_classes, size=shape, dtype=np.uint8))
    confidence = rng.choice(levels, shape)
    true_mask[rng.random(shape) < 0.2] = 255
    shares = np.repeat((255 - confidence)[None] / 255 / (num_classes - 1), num_classes, axis=0)
    np.put_along_axis(shares, pred_mask[None].astype(np.int64), confidence[None] / 255, axis=0)
    expected = multiclass_calibration_error(
        torch.from_numpy(shares[None]), torch.from_numpy(true_mask[None]).long(), num_classes, BINS, ignore_index=255
    )
    counts = count_calibration(true_mask, pred_mask, confidence, num_classes)
    assert counts[0].sum() == np.count_nonzero(true_mask != 255)
    assert calibrate(counts).error == pytest.approx(float(expected), abs=1e-6)


def test_pixels_are_counted_by_fifteenths_of_confidence() -> None:
    confidence = np.arange(256, dtype=np.uint8).reshape(16, 16)
    counts = count_calibration(np.zeros((16, 16), np.uint8), np.zeros((16, 16), np.uint8), confidence, 1)
    assert counts.dtype == np.int64
    assert counts[0].tolist() == counts[1].tolist() == [18] + 14 * [17]
    assert counts[2].tolist() == [sum(range(18)), *(sum(range(17 * m + 1, 17 * m + 18)) for m in range(1, 15))]


def test_a_pixel_of_no_class_is_not_counted() -> None:
    true_mask = np.array([[0, 1, 2, 255]], np.uint8)
    counts = count_calibration(true_mask, np.zeros((1, 4), np.uint8), np.full((1, 4), 255, np.uint8), 2)
    assert counts[:, -1].tolist() == [2, 1, 2 * 255]
    assert counts[:, :-1].sum() == 0


def test_counts_of_frames_add_up_to_those_of_all() -> None:
    rng = np.random.default_rng(0)
    true_mask, pred_mask = rng.integers(3, size=(2, 6, 8), dtype=np.uint8)
    confidence = rng.integers(256, size=(6, 8), dtype=np.uint8)
    halves = [count_calibration(true_mask[r], pred_mask[r], confidence[r], 3) for r in (slice(3), slice(3, 6))]
    assert (sum(halves) == count_calibration(true_mask, pred_mask, confidence, 3)).all()


def test_what_no_pixel_defines_is_none() -> None:
    found = calibrate([0] * 3 * BINS)
    assert found.error is None
    assert found.bins == (Bin(pixels=0, accuracy=None, confidence=None),) * BINS


def test_a_network_that_is_as_sure_as_it_is_right_has_no_error() -> None:
    counts = np.zeros((3, BINS), np.int64)
    counts[:, 8] = 255, 153, 153 * 255
    found = calibrate(counts)
    assert found.error == 0
    assert found.bins[8] == Bin(pixels=255, accuracy=0.6, confidence=0.6)
