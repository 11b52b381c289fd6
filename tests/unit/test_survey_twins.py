import time

import numpy as np
import pytest
from numpy.typing import NDArray

from unet_ray.survey.twins import MOST_BITS, find_twins, hash_thumbs, make_thumb


def noise(number: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (number, 72), dtype=np.uint8)


def with_bits_turned(thumb: NDArray[np.uint8], number: int, seed: int) -> NDArray[np.uint8]:
    """Return a thumbnail whose hash differs from that of a ramp in some bits, anywhere."""
    grey = thumb.reshape(8, 9).copy()
    for place in np.random.default_rng(seed).choice(32, number, replace=False).tolist():
        row, column = divmod(place, 4)
        grey[row, 2 * column + 1] = grey[row, 2 * column]  # not brighter any more; the next one still is
    return grey.ravel()


RAMP = np.tile(np.arange(0, 90, 10, dtype=np.uint8), 8)


def test_a_thumbnail_is_the_image_averaged_and_its_hash_says_where_it_gets_brighter() -> None:
    ramp = np.repeat(np.tile(np.arange(0, 90, 10, dtype=np.uint8).repeat(7), (40, 1))[:, :, None], 3, axis=2)
    assert make_thumb(ramp).tolist() == RAMP.tolist()
    assert hash_thumbs(make_thumb(ramp)[None]).tolist() == [2**64 - 1]
    assert hash_thumbs(make_thumb(ramp[:, ::-1].copy())[None]).tolist() == [0]


@pytest.mark.parametrize("seed", range(8))
def test_every_twin_up_to_four_bits_away_is_found_wherever_the_bits_are(seed: int) -> None:
    for number in range(MOST_BITS + 3):
        twins = find_twins(with_bits_turned(RAMP, number, seed)[None], RAMP[None])
        assert twins.bits.tolist() == ([number] if number <= MOST_BITS else [])


def test_the_nearest_twin_is_named_and_the_first_among_equals() -> None:
    others = np.stack([noise(1)[0], with_bits_turned(RAMP, 2, 0), RAMP, RAMP])
    twins = find_twins(np.stack([noise(1, seed=9)[0], RAMP]), others)
    assert (twins.frames.tolist(), twins.others.tolist(), twins.bits.tolist()) == ([1], [2], [0])


def test_equal_hashes_of_pictures_that_do_not_look_alike_are_no_twins() -> None:
    assert len(find_twins(RAMP[None], RAMP[None] + np.uint8(100)).frames) == 0
    assert len(find_twins(RAMP[None], RAMP[None] + np.uint8(10)).frames) == 1


def test_no_images_have_no_twins() -> None:
    assert len(find_twins(noise(0), noise(3)).frames) == len(find_twins(noise(3), noise(0)).frames) == 0


def test_frames_are_not_compared_all_with_all() -> None:
    started = time.monotonic()
    frames, others = noise(20_000, seed=1), noise(80_000, seed=2)  # all with all would be 1.6e9 pairs, over a minute
    others[::8_000] = frames[::2_000]
    assert find_twins(frames, others).frames.tolist() == list(range(0, 20_000, 2_000))
    assert time.monotonic() - started < 40


def test_a_crowd_of_equal_frames_is_no_burden() -> None:
    started = time.monotonic()
    crowd = np.repeat(RAMP[None], 5_000, axis=0)
    twins = find_twins(crowd[:500], np.concatenate([noise(3), crowd]))
    assert (len(twins.frames), set(twins.others.tolist()), set(twins.bits.tolist())) == (500, {3}, {0})
    assert time.monotonic() - started < 40
