"""Frames that follow each other, without a network: the masks are given."""

from collections import Counter
from collections.abc import Sequence

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from unet_ray.config import PredictSection
from unet_ray.model.segmented import Segmented
from unet_ray.predict.sequence import (
    Image,
    Origin,
    Seen,
    complete,
    find_motion,
    find_runs,
    follow_motion,
    trace_origins,
    vote,
)

CLASSES = 4
SHAPE = (48, 64)


def draw(seed: int, shape: tuple[int, int] = SHAPE) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


def colour_of(image: Image) -> Segmented:
    """Stand for a network: the mask is the class in the red channel, the confidence the green one."""
    return Segmented(image[..., 0] % CLASSES, image[..., 1].copy(), image[..., 2] % CLASSES, image[..., 2].copy())


class Network:
    """Segments by colour, and remembers how many frames it was given."""

    def __init__(self) -> None:
        self.segmented = 0

    def __call__(self, images: list[Image]) -> list[Segmented]:
        self.segmented += len(images)
        return [colour_of(image) for image in images]


def see(
    images: Sequence[Image], groups: Sequence[str], segment: Network, section: PredictSection, num_classes: int
) -> list[Seen]:
    """Do what is done before and behind the network."""
    runs = find_runs(images, groups)
    origins = trace_origins(images, runs, every=section.segment_every, copy_repeats=section.copy_repeats)
    keys = sorted({origin.key for origin in origins})
    segmented = dict(zip(keys, segment([images[key] for key in keys]), strict=True))
    return complete(origins, runs, segmented, images, smooth_frames=section.smooth_frames, num_classes=num_classes)


def test_runs_end_with_their_group_and_with_their_size() -> None:
    images = [draw(0)] * 4 + [draw(0, (32, 32))] * 2 + [draw(0)] * 3
    groups = ["a", "a", "b", "b", "b", "b", "", "", "c"]
    assert find_runs(images, groups) == [
        range(2),
        range(2, 4),
        range(4, 6),
        range(6, 7),
        range(7, 8),
        range(8, 9),
    ]
    assert find_runs([], []) == []


@pytest.mark.parametrize(
    ("every", "keys"),
    [
        (1, [0, 1, 2, 3, 4, 5, 6]), (2, [0, 0, 2, 2, 4, 4, 6]), (3, [0, 0, 3, 3, 3, 6, 6]),
        (5, [0, 0, 0, 5, 5, 5, 5]), (9, [0, 0, 0, 0, 0, 0, 0]),
    ],
)  # fmt: skip
def test_frames_between_take_the_mask_of_the_nearest_one_that_is_segmented(every: int, keys: list[int]) -> None:
    images = [draw(seed) for seed in range(7)]
    found = trace_origins(images, [range(7)], every=every, copy_repeats=False)
    assert found == [Origin(key=key, like=frame) for frame, key in enumerate(keys)]


def test_each_run_begins_with_a_frame_that_is_segmented() -> None:
    found = trace_origins([draw(seed) for seed in range(5)], [range(2), range(2, 5)], every=4, copy_repeats=False)
    assert [origin.key for origin in found] == [0, 0, 2, 2, 2]


def test_repeats_are_like_the_first_that_shows_it_and_count_as_no_frame_of_their_own() -> None:
    shown = [draw(0), draw(1), draw(2)]
    images = [shown[0], shown[0], shown[1], shown[1], shown[1], shown[2]]
    found = trace_origins(images, [range(6)], every=1, copy_repeats=True)
    assert found == [Origin(key=key, like=key) for key in (0, 0, 2, 2, 2, 5)]
    apart = trace_origins(images, [range(6)], every=2, copy_repeats=True)
    assert apart == [Origin(0, 0), Origin(0, 0), Origin(0, 2), Origin(0, 2), Origin(0, 2), Origin(5, 5)]


def test_coding_noise_is_a_repeat_and_a_slow_drift_is_not_one_for_ever() -> None:
    base = draw(0).astype(np.int16)
    images = [np.clip(base + step * 0.3, 0, 255).astype(np.uint8) for step in range(20)]
    found = trace_origins(images, [range(20)], every=1, copy_repeats=True)
    assert 3 <= len({origin.key for origin in found}) <= 12


def make_scene(shift: int) -> tuple[Image, NDArray[np.uint8]]:
    """Return a textured photo that moved to the right by so many px, and its mask."""
    texture = cv2.GaussianBlur(draw(3, (120, 400)), (0, 0), 2)
    mask = np.zeros((120, 400), np.uint8)
    cv2.circle(mask, (180, 60), 30, 1, -1)
    cv2.rectangle(mask, (220, 20), (260, 100), 2, -1)
    texture[mask == 1] //= 2
    texture[mask == 2] = 255 - texture[mask == 2] // 2
    part = slice(100 - shift, 300 - shift)
    return np.ascontiguousarray(texture[:, part]), np.ascontiguousarray(mask[:, part])


@pytest.mark.parametrize("shift", [-9, 4, 7])
def test_a_mask_follows_what_moves(shift: int) -> None:
    (before, mask), (image, moved) = make_scene(0), make_scene(shift)
    found = follow_motion(mask, find_motion(image, before))
    copied, followed = ((other != moved).mean() for other in (mask, found))
    assert followed < copied / 4
    assert set(np.unique(found)) <= set(np.unique(mask))


def test_motion_does_not_depend_on_the_number_of_threads() -> None:
    image, before = make_scene(5)[0], make_scene(0)[0]
    threads = cv2.getNumThreads()
    try:
        found = []
        for number in (1, 2, 3):
            cv2.setNumThreads(number)
            found.append(find_motion(image, before))
            assert cv2.getNumThreads() == number
    finally:
        cv2.setNumThreads(threads)
    assert all(np.array_equal(other, found[0]) for other in found[1:])


def elect_one_by_one(masks: Sequence[NDArray[np.uint8]], reach: int) -> list[NDArray[np.uint8]]:
    results = []
    for position, mask in enumerate(masks):
        voters = masks[max(0, position - reach) : position + reach + 1]
        result = np.empty_like(mask)
        for pixel in np.ndindex(mask.shape):
            votes = Counter(int(voter[pixel]) for voter in voters)
            most = max(votes.values())
            own = int(mask[pixel])
            result[pixel] = own if votes[own] == most else min(value for value in votes if votes[value] == most)
        results.append(result)
    return results


@given(seed=st.integers(0, 1000), length=st.integers(1, 7), reach=st.integers(1, 4))
def test_votes_are_those_that_are_counted_one_by_one(seed: int, length: int, reach: int) -> None:
    masks = list(np.random.default_rng(seed).integers(0, CLASSES, (length, 5, 6), np.uint8))
    for found, expected in zip(vote(masks, reach, CLASSES), elect_one_by_one(masks, reach), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_without_options_every_frame_is_segmented_and_knows_the_mask_before() -> None:
    network, images = Network(), [draw(seed) for seed in range(4)]
    seen = see(images, ["a", "a", "a", "b"], network, PredictSection(), CLASSES)
    assert network.segmented == 4
    assert [one.key for one in seen] == [0, 1, 2, 3]
    for one, image in zip(seen, images, strict=True):
        np.testing.assert_array_equal(one.found.mask, colour_of(image).mask)
    assert seen[0].before is seen[3].before is None
    np.testing.assert_array_equal(seen[2].before, colour_of(images[1]).mask)


def test_a_repeat_costs_nothing_and_has_all_planes_of_what_it_repeats() -> None:
    network, images = Network(), [draw(0), draw(0), draw(1)]
    seen = see(images, ["a"] * 3, network, PredictSection(copy_repeats=True), CLASSES)
    assert network.segmented == 2
    assert [one.key for one in seen] == [0, 0, 2]
    assert seen[1].found is seen[0].found


def test_a_frame_between_has_all_planes_moved_alike() -> None:
    network = Network()
    images = [make_scene(shift)[0] for shift in (0, 4)]
    seen = see(images, ["a"] * 2, network, PredictSection(segment_every=2), CLASSES)
    assert network.segmented == 1
    motion = find_motion(images[1], images[0])
    whole = colour_of(images[0])
    for name in ("mask", "confidence", "second", "entropy"):
        np.testing.assert_array_equal(getattr(seen[1].found, name), follow_motion(getattr(whole, name), motion))


def test_votes_stay_within_a_group() -> None:
    images = [draw(0), draw(0), draw(1), draw(1)]
    images[1] = draw(2)
    seen = see(images, ["a", "a", "b", "b"], Network(), PredictSection(smooth_frames=1), CLASSES)
    masks = [colour_of(image).mask for image in images]
    for half in (slice(0, 2), slice(2, 4)):
        for one, expected in zip(seen[half], vote(masks[half], 1, CLASSES), strict=True):
            np.testing.assert_array_equal(one.found.mask, expected)
    np.testing.assert_array_equal(seen[1].before, seen[0].found.mask)


def test_nothing_to_see_is_nothing() -> None:
    assert see([], [], Network(), PredictSection(), CLASSES) == []
