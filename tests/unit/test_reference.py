"""The frames that a model is known from, as a checkpoint keeps them."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from unet_ray.reference import LEVELS, SIZE, Reference, count_levels, find_levels, name_numbers
from unet_ray.stability import quantile_bins

NAMES = name_numbers(["road", "sky"])


def draw(frames: int, seed: int, most: int = LEVELS) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, most, (len(NAMES), frames))


@given(frames=st.integers(1, 60), seed=st.integers(0, 1000), most=st.sampled_from([1, 3, 40, LEVELS]))
def test_bins_are_those_of_the_index_and_hold_every_frame(frames: int, seed: int, most: int) -> None:
    levels_FN = draw(frames, seed, most)
    counts_FL = count_levels(levels_FN)
    reference = Reference.of(NAMES, counts_FL)
    assert reference.sample.frames == frames
    for place, edges in enumerate(reference.edges):
        bins_L = quantile_bins(counts_FL[place])
        expected = np.bincount(bins_L, weights=counts_FL[place], minlength=len(edges) + 1)
        found = reference.sample.counts_FB[place]
        assert found[: len(edges) + 1].tolist() == expected.tolist()
        assert not found[len(edges) + 1 :].any()
    assert [one.index for one in reference.shifts(reference.count(levels_FN))] == [0.0] * len(NAMES)


def test_a_reference_comes_back_from_json_as_it_was() -> None:
    reference = Reference.of(NAMES, count_levels(draw(50, 0)))
    found = Reference.from_json(json.loads(json.dumps(reference.to_json())))
    assert found is not None
    assert (found.names, found.edges) == (reference.names, reference.edges)
    others = reference.count(draw(30, 1, most=300))
    assert found.shifts(others) == reference.shifts(others)
    assert Reference.from_json(None) is None


def test_samples_add_up() -> None:
    reference = Reference.of(NAMES, count_levels(draw(50, 0)))
    first, second = draw(20, 1), draw(9, 2)
    together = reference.count(first) + reference.count(second)
    whole = reference.count(np.concatenate([first, second], axis=1))
    assert together.frames == 29
    assert reference.shifts(together) == reference.shifts(whole)


def test_levels_are_thousandths_of_what_a_number_can_be() -> None:
    levels = find_levels(
        pixels_N=np.array([2**15, 100]),
        channel_sum_N3=np.array([[0, 0, 0], [25_500, 25_500, 25_500]]),
        confidence_sum_NK=np.array([[2**15 * 255 // 2, 0], [0, 51 * 100]]),
        entropy_sum_N=np.array([2**15 * 255, 0]),
        class_pixels_NK=np.array([[2**15, 0], [25, 75]]),
    )
    expected = {
        SIZE: [500, 221], "brightness": [0, 999], "confidence": [500, 200], "uncertainty": [999, 0],
        "share of road": [999, 250], "share of sky": [0, 750],
    }  # fmt: skip
    assert dict(zip(NAMES, levels.tolist(), strict=True)) == expected


@pytest.mark.parametrize("number", [SIZE, "brightness"])
def test_the_mean_of_a_size_says_nothing(number: str) -> None:
    reference = Reference.of(NAMES, count_levels(draw(50, 0)))
    (shift,) = (one for one in reference.shifts(reference.sample) if one.number == number)
    assert (shift.mean is None) == (number == SIZE)
    assert shift.mean == shift.reference_mean
