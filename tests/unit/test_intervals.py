"""Bootstrap intervals: against all draws there are, against a loop, and against the truth they are to cover."""

import itertools
import time

import numpy as np
import pytest
from numpy.typing import NDArray

from unet_ray.intervals import DRAWS, MOST_UNITS, Interval, bootstrap, deal
from unet_ray.metrics import count_margins, score

Counts = NDArray[np.int64]


def frames(number: int, seed: int = 0, classes: int = 3) -> Counts:
    """Confusion matrices of frames that are good and bad, in which the last class is rare."""
    rng = np.random.default_rng(seed)
    quality = rng.uniform(0.3, 0.9, (number, 1, 1))
    likely = quality * np.eye(classes) + (1 - quality) / classes
    pixels = rng.integers(50, 150, (number, classes))
    pixels[:, -1] *= rng.random(number) < 0.3
    return rng.multinomial(pixels, likely)


def test_of_three_units_the_interval_reaches_from_the_worst_to_the_best_of_all_27_draws() -> None:
    confusions = frames(3)
    draws = [score(confusions[list(drawn)].sum(0), background=0) for drawn in itertools.product(range(3), repeat=3)]
    found = bootstrap(count_margins(confusions), 0, seed=1)  # each draw has 3.7 %, more than what is cut off
    assert found is not None
    for name in ("miou", "object_miou", "pixel_accuracy"):
        values = [getattr(one, name) for one in draws]
        interval = getattr(found, name)
        assert (interval.low, interval.high) == (pytest.approx(min(values)), pytest.approx(max(values)))


def test_the_interval_is_that_of_a_loop_over_draws() -> None:
    confusions = frames(40, seed=3)
    rng = np.random.default_rng(9)
    draws = [score(confusions[rng.integers(40, size=40)].sum(0), background=1) for _ in range(DRAWS)]
    found = bootstrap(count_margins(confusions), 1, seed=7)
    assert found is not None
    for name in ("miou", "object_miou", "pixel_accuracy"):
        low, high = np.quantile([getattr(one, name) for one in draws], (0.025, 0.975))
        interval = getattr(found, name)
        assert interval.low == pytest.approx(low, abs=0.12 * (high - low))  # for the chance in draws
        assert interval.high == pytest.approx(high, abs=0.12 * (high - low))


def test_nineteen_of_twenty_intervals_hold_the_score_of_what_frames_were_drawn_from() -> None:
    everything = frames(4_000, seed=5)
    true = score(everything.sum(0)).miou
    assert true is not None
    rng = np.random.default_rng(0)
    found = [bootstrap(count_margins(everything[rng.integers(4_000, size=100)]), None, seed=0) for _ in range(100)]
    covered = sum(one is not None and one.miou is not None and one.miou.low <= true <= one.miou.high for one in found)
    assert 88 <= covered <= 100


def test_many_frames_in_random_groups_give_nearly_the_interval_of_all_of_them() -> None:
    margins = count_margins(frames(3 * MOST_UNITS + 1, seed=2))
    sizes = np.bincount(deal(len(margins), seed=0))
    assert (len(sizes), sizes.min(), sizes.max()) == (MOST_UNITS, 3, 4)
    found = bootstrap(margins, None, seed=0)
    rng = np.random.default_rng(4)
    accuracies = []
    for _ in range(1_000):
        right, true, _ = margins[rng.integers(len(margins), size=len(margins))].sum(axis=(0, 2))
        accuracies.append(right / true)
    low, high = np.quantile(accuracies, (0.025, 0.975))
    assert found is not None
    assert found.pixel_accuracy is not None
    assert found.pixel_accuracy.low == pytest.approx(low, abs=0.15 * (high - low))
    assert found.pixel_accuracy.high == pytest.approx(high, abs=0.15 * (high - low))


def test_a_hundred_thousand_frames_take_seconds_at_most() -> None:
    margins = np.random.default_rng(0).integers(1_000, size=(100_000, 3, 19))
    margins[:, 0] //= 2
    margins[:, 1:] += 1_000
    began = time.process_time()
    assert bootstrap(margins, 0, seed=0) is not None
    assert time.process_time() - began < 10  # 1 s here; the loop above would take minutes


def test_the_same_seed_gives_the_same_interval() -> None:
    margins = count_margins(frames(10))
    assert bootstrap(margins, None, seed=3) == bootstrap(margins, None, seed=3) != bootstrap(margins, None, seed=4)


def test_few_units_are_drawn_as_they_are() -> None:
    assert deal(5, seed=0).tolist() == [0, 1, 2, 3, 4]
    assert deal(MOST_UNITS, seed=0).tolist() == list(range(MOST_UNITS))


@pytest.mark.parametrize("confusions", [frames(0), frames(1), np.zeros((5, 3, 3), np.int64)])
def test_one_unit_or_none_and_no_labelled_pixel_give_no_interval(confusions: Counts) -> None:
    assert bootstrap(count_margins(confusions), None, seed=0) is None


def test_what_is_undefined_has_no_interval_and_what_is_certain_one_of_no_width() -> None:
    found = bootstrap(count_margins(np.array([[[7, 0], [0, 0]], [[5, 0], [0, 0]]])), 0, seed=0)
    assert found is not None
    assert found.object_miou is None
    assert found.miou == found.pixel_accuracy == Interval(low=1.0, high=1.0)


def test_draws_without_a_labelled_pixel_are_left_out() -> None:
    confusions = np.zeros((4, 2, 2), np.int64)
    confusions[0] = [[3, 1], [0, 0]]
    found = bootstrap(count_margins(confusions), None, seed=0)
    assert found is not None
    assert found.pixel_accuracy == Interval(low=0.75, high=0.75)
