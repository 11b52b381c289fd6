from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from unet_ray.config_input import LabelsSection
from unet_ray.errors import ImageError
from unet_ray.labels.recovery import Recovery, filter_mode, pack_colours, unpack_colours
from unet_ray.labels.scheme import make_class_map, make_cluster_map

COLOURS = ((0, 0, 0), (128, 64, 128), (0, 0, 142))


def colours(**changes: Any) -> Recovery:
    return Recovery(read="colour", keys=COLOURS, class_ids=(2, 0, 1), **changes)


def picture(*rows: list[tuple[int, int, int]]) -> NDArray[np.uint8]:
    return np.array(rows, np.uint8)


def test_stored_numbers_up_to_65535_become_the_class_they_stand_for() -> None:
    recovery = Recovery(keys=((0,), (255,), (65535,)), class_ids=(0, 1, 255))
    mask = recovery.to_class_ids(np.array([[0, 255], [65535, 0]], np.uint16))
    assert (mask.dtype, mask.tolist()) == (np.dtype(np.uint8), [[0, 1], [255, 0]])


@pytest.mark.parametrize(
    ("channel", "expected"),
    [("red", [[3, 0]]), ("green", [[1, 2]]), ("blue", [[0, 4]]), ("max", [[3, 4]])],
)
def test_ids_are_read_from_the_channel_that_holds_them(channel: Any, expected: list[list[int]]) -> None:
    recovery = Recovery(read=channel, keys=tuple((value,) for value in range(5)), class_ids=tuple(range(5)))
    assert recovery.to_class_ids(picture([(3, 1, 0), (0, 2, 4)])).tolist() == expected


def test_colours_are_exact_unless_a_distance_is_given() -> None:
    assert colours().to_class_ids(picture([(0, 0, 142), (0, 0, 0), (128, 64, 128)])).tolist() == [[1, 2, 0]]
    with pytest.raises(ImageError) as caught:
        colours().to_class_ids(picture([(0, 0, 142), (0, 0, 141)], [(1, 2, 3), (0, 0, 141)]))
    assert caught.value.code == "unknown_colour"
    assert caught.value.message == (
        "colours (0, 0, 141) (2 px), (1, 2, 3) (1 px) are not known (labels.palette, labels.max_distance)"
    )


def test_the_nearest_colour_counts_up_to_the_distance_and_not_beyond() -> None:
    near = colours(max_distance=5)
    assert near.to_class_ids(picture([(3, 4, 0), (128, 61, 124)])).tolist() == [[2, 0]]
    with pytest.raises(ImageError, match=r"colours \(3, 4, 1\) \(1 px\) are not within 5 of a known one"):
        near.to_class_ids(picture([(3, 4, 1)]))


def test_unknown_pixels_are_ignored_where_that_is_wanted() -> None:
    assert colours(unknown="ignore").to_class_ids(picture([(9, 9, 9), (0, 0, 0)])).tolist() == [[255, 2]]
    ids = Recovery(keys=((0,),), class_ids=(0,), unknown="ignore")
    assert ids.to_class_ids(np.array([[0, 7]], np.uint16)).tolist() == [[0, 255]]


def test_a_refusal_does_not_spoil_the_next_mask() -> None:
    recovery, known = colours(max_distance=5), picture([(0, 0, 140)])
    for _ in range(2):
        with pytest.raises(ImageError):
            recovery.to_class_ids(picture([(200, 200, 200), (0, 0, 140)]))
        assert recovery.to_class_ids(known).tolist() == [[1]]


@settings(max_examples=25, deadline=None)
@given(
    pixels=st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=1, max_size=60),
    keys=st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=1, max_size=9, unique=True),
    far=st.none() | st.integers(0, 442),
)
def test_any_distance_finds_what_a_plain_search_finds(pixels: Any, keys: Any, far: int | None) -> None:
    recovery = Recovery(
        read="colour", keys=tuple(keys), class_ids=tuple(range(len(keys))), max_distance=far, unknown="ignore"
    )
    expected = []
    for pixel in pixels:
        squares = [sum((a - b) ** 2 for a, b in zip(pixel, key, strict=True)) for key in keys]
        best = min(squares)
        expected.append(255 if far is not None and best > far**2 else squares.index(best))
    assert recovery.to_class_ids(np.array([pixels], np.uint8)).tolist() == [expected]


def test_more_colours_than_are_searched_at_once_are_found() -> None:
    recovery = Recovery(read="colour", keys=((0, 0, 0), (255, 255, 255)), class_ids=(0, 1), max_distance=None)
    values = np.arange(150_000, dtype=np.uint32) * 111
    mask = recovery.to_class_ids(unpack_colours(values)[None])
    bright = unpack_colours(values).astype(int).sum(axis=1) > 382  # nearer to white than to black
    assert np.array_equal(mask[0], bright.astype(np.uint8))


def test_colours_come_back_from_their_numbers() -> None:
    pixels = np.random.default_rng(0).integers(256, size=(5, 7, 3), dtype=np.uint8)
    assert np.array_equal(unpack_colours(pack_colours(pixels).ravel()), pixels.reshape(-1, 3))


def slow_mode(mask: NDArray[np.uint8], width: int) -> list[list[int]]:
    reach, result = width // 2, []
    for y in range(mask.shape[0]):
        row = []
        for x in range(mask.shape[1]):
            window = mask[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
            votes = Counter(window[window != 255].tolist())
            row.append(255 if mask[y, x] == 255 else min(votes, key=lambda class_id: (-votes[class_id], class_id)))
        result.append(row)
    return result


@pytest.mark.parametrize("width", [3, 5, 31])
@pytest.mark.parametrize("seed", range(4))
def test_the_mode_filter_is_a_vote_in_a_window_that_ends_at_the_border(width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.choice(np.array([0, 1, 2, 252, 255], np.uint8), size=(9, 12))
    before = mask.copy()
    assert filter_mode(mask, width).tolist() == slow_mode(mask, width)
    assert np.array_equal(mask, before)


def test_the_mode_filter_removes_specks_and_neither_fills_nor_counts_what_is_ignored() -> None:
    mask = np.ones((5, 5), np.uint8)
    mask[2, 2], mask[0, 0] = 7, 255
    expected = np.ones((5, 5), np.uint8)
    expected[0, 0] = 255
    assert filter_mode(mask, 3).tolist() == expected.tolist()
    surrounded = np.full((3, 3), 255, np.uint8)
    surrounded[1, 1] = 4
    assert filter_mode(surrounded, 3).tolist() == surrounded.tolist()


def test_of_equally_many_the_lowest_class_wins() -> None:
    assert filter_mode(np.array([[3, 1]], np.uint8), 3).tolist() == [[1, 1]]


def test_the_hood_is_ignored_from_its_row_down_and_only_its_class() -> None:
    recovery = Recovery(keys=((0,), (10,)), class_ids=(0, 1), hood=(1, 2))
    stored = np.array([[10, 0]] * 4, np.uint16)
    assert recovery.to_class_ids(stored).tolist() == [[1, 0], [1, 0], [255, 0], [255, 0]]
    assert recovery.to_class_ids(stored[:1]).tolist() == [[1, 0]]


SECTIONS = [
    LabelsSection(classes=("a", "b", "c"), values=(0, 7, 9), ignore_ids=(3,), unknown="ignore"),
    LabelsSection(preset="cityscapes_8", unknown="ignore"),
    LabelsSection(preset="cityscapes_8", scheme="colours", max_distance="any", mode_filter=3),
    LabelsSection(preset="cityscapes_19", scheme="colours", unknown="ignore"),
    LabelsSection(preset="voc", scheme="colours", max_distance=40, unknown="ignore"),
    LabelsSection(preset="carla", scheme="channel", channel="max", unknown="ignore", hood=("Vehicles", 4)),
    LabelsSection(scheme="bins"),
    LabelsSection(scheme="bins", classes=("dark", "middle", "bright"), bin_width=100),
    LabelsSection(scheme="bins", classes=("a", "b", "c"), groups={"both": ("a", "c")}, bin_width=1),
]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), section=st.sampled_from(SECTIONS))
def test_no_id_ever_lies_beyond_the_classes_except_that_of_ignored_pixels(seed: int, section: LabelsSection) -> None:
    made = make_class_map(section)
    rng = np.random.default_rng(seed)
    if made.recovery.read == "ids":
        pixels = rng.choice([rng.integers(40), rng.integers(65536)], size=(8, 9)).astype(np.uint16)
    else:
        pixels = rng.integers(256, size=(8, 9, 3), dtype=np.uint8)
    found = set(np.unique(made.recovery.to_class_ids(pixels)).tolist())
    assert found <= {*range(made.num_classes), 255}


def test_every_pixel_gets_the_cluster_of_its_nearest_centroid() -> None:
    made = make_cluster_map(LabelsSection(scheme="kmeans"), [(0, 0, 0), (0, 0, 200), (200, 0, 0)])
    pixels = np.random.default_rng(0).integers(256, size=(20, 30, 3), dtype=np.uint8)
    distance = ((pixels[:, :, None].astype(int) - np.array(made.palette)) ** 2).sum(axis=3)
    assert np.array_equal(made.recovery.to_class_ids(pixels), distance.argmin(axis=2))
