import hashlib
import subprocess
import sys
from itertools import combinations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from unet_ray.datasets.synthetic import CLASSES, PALETTE, render_frame
from unet_ray.errors import ConfigError

HEIGHT, WIDTH = 160, 224
ROAD = CLASSES.index("road")

Bytes = NDArray[np.uint8]


def frame_of(sequence: int, frame: int, seed: int = 0) -> tuple[Bytes, Bytes]:
    return render_frame(seed, sequence, frame, HEIGHT, WIDTH)


def agreement(mask: Bytes, other: Bytes) -> float:
    return float((mask == other).mean())


def test_the_same_arguments_give_the_same_bytes_in_another_process() -> None:
    script = (
        "import hashlib; from unet_ray.datasets.synthetic import render_frame; "
        "image, mask = render_frame(3, 5, 7, 97, 131); "
        "print(hashlib.sha256(image.tobytes() + mask.tobytes()).hexdigest())"
    )
    elsewhere = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    render_frame(3, 4, 0, 97, 131)
    image, mask = render_frame(3, 5, 7, 97, 131)
    assert elsewhere.stdout.strip() == hashlib.sha256(image.tobytes() + mask.tobytes()).hexdigest()


@pytest.mark.parametrize(("height", "width"), [(48, 64), (97, 131), (300, 100), (60, 301), (1080, 1920)])
def test_a_frame_of_any_shape_is_an_rgb_image_and_a_mask_of_class_ids(height: int, width: int) -> None:
    image, mask = render_frame(1, 2, 3, height, width)
    assert image.shape == (height, width, 3)
    assert mask.shape == (height, width)
    assert image.dtype == mask.dtype == np.uint8
    assert mask.max() < len(CLASSES)
    assert (mask[-1] != CLASSES.index("sky")).all()
    assert mask[-1, width // 2] == ROAD


@pytest.mark.parametrize("first_frame", [0, 5000])
def test_every_class_shows_in_every_sequence_however_long_it_is(first_frame: int) -> None:
    for sequence in range(6):
        masks = [frame_of(sequence, first_frame + step)[1] for step in range(0, 60, 12)]
        shares = np.bincount(np.concatenate(masks, axis=None), minlength=len(CLASSES)) / np.size(masks)
        assert (shares > 0.002).all(), dict(zip(CLASSES, shares.round(4), strict=True))


def test_a_street_moves_a_little_from_frame_to_frame_and_far_in_the_end() -> None:
    for sequence in range(4):
        (image, mask), (next_image, next_mask) = frame_of(sequence, 20), frame_of(sequence, 21)
        late_mask = frame_of(sequence, 60)[1]
        assert not np.array_equal(image, next_image)
        assert 0.93 < agreement(mask, next_mask) < 1
        assert agreement(mask, late_mask) < agreement(mask, next_mask) - 0.03


def test_a_larger_frame_shows_the_same_street() -> None:
    mask = frame_of(2, 9)[1]
    large_mask = render_frame(0, 2, 9, 3 * HEIGHT, 3 * WIDTH)[1]
    assert agreement(mask, large_mask[1::3, 1::3]) > 0.95


def test_sequences_and_seeds_give_different_streets() -> None:
    masks = [frame_of(0, 0)[1], frame_of(1, 0)[1], frame_of(2, 0)[1], frame_of(0, 0, seed=1)[1]]
    for mask, other in combinations(masks, 2):
        assert agreement(mask, other) < 0.9


def test_the_outlines_in_the_mask_are_edges_in_the_image() -> None:
    image, mask = frame_of(3, 4)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    steps = np.abs(np.diff(grey, axis=1))
    outlines = np.diff(mask.astype(int), axis=1) != 0
    assert steps[outlines].mean() > 3 * steps[~outlines].mean()


def test_each_class_has_a_colour_of_its_own() -> None:
    assert len(PALETTE) == len(CLASSES)
    for colour, other in combinations(np.array(PALETTE), 2):
        assert np.abs(colour - other).sum() >= 100


@pytest.mark.parametrize(("height", "width"), [(47, 64), (48, 63)])
def test_a_frame_too_small_to_draw_is_refused(height: int, width: int) -> None:
    with pytest.raises(ConfigError, match=rf"height {height} and width {width}.*ask for a larger frame"):
        render_frame(0, 0, 0, height, width)


@pytest.mark.parametrize(("name", "arguments"), [("seed", (-1, 0, 0)), ("sequence", (0, -1, 0)), ("frame", (0, 0, -1))])
def test_a_negative_seed_sequence_or_frame_is_refused(name: str, arguments: tuple[int, int, int]) -> None:
    with pytest.raises(ConfigError, match=rf"{name} .*is -1: give 0 or more"):
        render_frame(*arguments, HEIGHT, WIDTH)
