import json
from dataclasses import asdict

import numpy as np
import pytest

from unet_ray.quality import Estimator, confident_miou, count_frame, fit


def test_the_confidence_of_a_mask_speaks_of_an_miou() -> None:
    assert confident_miou([10, 0, 4], [2550, 0, 1020]) == 1.0
    assert confident_miou([10, 0], [1275, 0]) == pytest.approx(0.5 / 1.5)
    assert confident_miou([10, 5], [2550, 0]) == 0.5


def test_the_assumed_iou_is_the_true_one_where_as_many_pixels_are_missed_as_are_wrong() -> None:
    """Of 100 pixels of a class 80 are right, and 20 of it are elsewhere: 80 / 120."""
    assert confident_miou([100], [80 * 255]) == pytest.approx(80 / 120)


def test_a_line_is_found_again_and_its_error_is_that_of_numpy() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(0.3, 0.9, 500)
    y = np.clip(0.1 + 0.7 * x + rng.normal(0, 0.05, 500), 0, 1)
    found = fit(sum(map(count_frame, x, y), np.zeros(6, np.int64)))
    assert found is not None
    slope, intercept = np.polyfit(x, y, 1)
    error = (((intercept + slope * x - y) ** 2).sum() / 498) ** 0.5
    assert (found.slope, found.intercept, found.error) == pytest.approx((slope, intercept, error), abs=2e-4)
    assert found.frames == 500


def test_counts_of_frames_add_up_in_any_order() -> None:
    pairs = [(k / 40, (k * 7 % 40) / 40) for k in range(40)]
    counts = [count_frame(*pair) for pair in pairs]
    assert fit(np.sum(counts, axis=0)) == fit(sum(reversed(counts)) + np.zeros(6, np.int64))


def test_a_perfect_line_has_no_error_and_estimates_stay_in_0_to_1() -> None:
    found = fit(np.sum([count_frame(k / 20, k / 10) for k in range(1, 11)], axis=0))
    assert found is not None
    assert found.error == pytest.approx(0, abs=1e-4)
    assert found.estimate([10], [255 * 10]) == 1.0
    assert Estimator(intercept=-1, slope=1, error=0, frames=9).estimate([10], [0]) == 0.0


def test_too_few_frames_or_frames_that_are_alike_tell_nothing() -> None:
    assert fit(np.zeros(6, np.int64)) is None
    assert fit(9 * count_frame(0.5, 0.5) + count_frame(0.5, 0.7)) is None
    assert fit(np.sum([count_frame(k / 10, 0.5) for k in range(9)], axis=0)) is None


def test_an_estimator_survives_json() -> None:
    estimator = Estimator(intercept=0.1, slope=0.9, error=0.03, frames=101)
    assert Estimator.from_json(json.loads(json.dumps(asdict(estimator)))) == estimator
    assert Estimator.from_json(None) is None
