"""The population stability index: its bins, its value and what it is by chance."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_ray.stability import MOST_BINS, index_by_chance, quantile_bins, stability_index

LEVELS = 60


def histogram(levels: np.ndarray) -> np.ndarray:
    return np.bincount(levels, minlength=LEVELS)


def collapse(counts_L: np.ndarray, bins_L: np.ndarray) -> np.ndarray:
    return np.bincount(bins_L, weights=counts_L, minlength=bins_L.max() + 1).astype(np.int64)


@given(st.lists(st.integers(0, LEVELS - 1), min_size=1, max_size=300))
def test_bins_are_in_order_and_none_between_the_outer_two_is_empty(levels: list[int]) -> None:
    counts_L = histogram(np.array(levels))
    bins_L = quantile_bins(counts_L)
    assert bins_L.dtype == np.int64
    assert set(np.diff(bins_L)) <= {0, 1}
    assert bins_L.max() < MOST_BINS
    assert (bins_L[: min(levels)] == 0).all()
    assert (bins_L[max(levels) + 1 :] == bins_L[max(levels)] + 1).all()
    inside = collapse(counts_L, bins_L)[1 : bins_L[max(levels)] + 1]
    assert (inside > 0).all()
    assert inside.sum() == len(levels)


def test_bins_hold_a_tenth_each_where_no_level_holds_more() -> None:
    counts_L = np.ones(LEVELS, np.int64)
    counts_L[:5] = counts_L[-5:] = 0
    assert collapse(counts_L, quantile_bins(counts_L)).tolist() == [0, *[5] * 10, 0]


def test_the_index_is_the_sum_of_differences_times_logarithms() -> None:
    counts_B, reference_B = np.array([10, 30, 60]), np.array([20, 20, 10])
    p, q = [10.5 / 101.5, 30.5 / 101.5, 60.5 / 101.5], [20.5 / 51.5, 20.5 / 51.5, 10.5 / 51.5]
    expected = sum((a - b) * math.log(a / b) for a, b in zip(p, q, strict=True))
    assert stability_index(counts_B, reference_B) == pytest.approx(expected)
    assert stability_index(reference_B, counts_B) == pytest.approx(expected)
    assert stability_index(counts_B, counts_B) == 0


def test_what_never_occurred_gives_a_large_index_and_no_infinite_one() -> None:
    reference_L, counts_L = histogram(np.zeros(500, np.int64)), histogram(np.full(500, 30))
    bins_L = quantile_bins(reference_L)
    assert 5 < stability_index(collapse(counts_L, bins_L), collapse(reference_L, bins_L)) < 20


@pytest.mark.parametrize(("degrees", "quantile"), [(1, 10.828), (4, 18.467), (9, 27.877), (11, 31.264)])
def test_chance_is_the_chi_squared_quantile_of_tables(degrees: int, quantile: float) -> None:
    assert index_by_chance(degrees + 1, 200, 1000) == pytest.approx(quantile * (1 / 200 + 1 / 1000), rel=0.035)
    assert index_by_chance(1, 200, 1000) == 0


def test_samples_of_one_distribution_hardly_ever_exceed_it() -> None:
    rng = np.random.default_rng(0)
    exceeded = 0
    for _ in range(1000):
        reference_L, counts_L = (histogram(rng.integers(5, 55, size)) for size in (400, 300))
        bins_L = quantile_bins(reference_L)
        index = stability_index(collapse(counts_L, bins_L), collapse(reference_L, bins_L))
        exceeded += index > index_by_chance(int(bins_L.max()) + 1, 300, 400)
    assert exceeded <= 5
