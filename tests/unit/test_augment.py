from collections.abc import Mapping

import cv2
import numpy as np
import pytest

from tests.unit.augment_cases import PLAIN, SIZE, augment, changed, make_pair, rngs_of
from unet_ray.augment.keys import make_rng, roll
from unet_ray.config_training import AugmentSection
from unet_ray.schema import IGNORE_INDEX

GEOMETRY: Mapping[str, object] = {
    "balance": 1,
    "rotate": 20,
    "translate": 0.2,
    "shear": 15,
    "perspective": 0.15,
    "elastic": 1,
}
PIXELS: Mapping[str, object] = {"blur": 1, "noise": 1, "sharpen": 1, "jpeg": 1}


def test_the_random_numbers_of_a_pair_follow_from_its_key() -> None:
    def draw(seed: int, epoch: int, image_id: str, stream: str = "") -> tuple[float, ...]:
        return tuple(make_rng(seed, epoch, image_id, stream).random(4).tolist())

    assert draw(0, 1, "a.png") == draw(0, 1, "a.png")
    keys = [(0, 1, "a.png"), (1, 1, "a.png"), (0, 2, "a.png"), (0, 1, "b.png"), (11, 1, "a.png"), (1, 11, "a.png")]
    streams = [(0, 1, "a.png", "blur"), (0, 1, "a.png", "noise")]
    assert len({*(draw(*key) for key in keys), *(draw(*key) for key in streams)}) == len(keys) + len(streams)


def test_the_random_numbers_of_a_pair_never_change() -> None:
    assert make_rng(0, 1, "a.png").integers(1000, size=4).tolist() == [707, 146, 502, 519]
    assert make_rng(0, 1, "a.png", "blur").integers(1000, size=4).tolist() == [530, 699, 17, 196]


def test_an_option_happens_as_often_as_asked() -> None:
    happened = [roll(rngs_of(number), "blur", 0.3) is not None for number in range(600)]
    assert 0.24 < np.mean(happened) < 0.36
    assert roll(rngs_of(0), "blur", 0) is None
    assert roll(rngs_of(0), "blur", 1) is not None


def test_a_whole_augmentation_is_repeated_by_its_key() -> None:
    section, pair = AugmentSection(**GEOMETRY, **PIXELS, hue=20, cutout=2), make_pair(*SIZE)
    for first, second in zip(augment(section, pair, (16, 16)), augment(section, pair, (16, 16)), strict=True):
        np.testing.assert_array_equal(first, second)
    assert not np.array_equal(augment(section, pair, (16, 16)).image, augment(section, pair, (16, 16), 1).image)


def test_the_defaults_crop_and_colour_as_they_always_have() -> None:
    """The numbers were drawn by the first version; the pixels are those of one affine warp in OpenCV."""
    pair, inverse = make_pair(360, 480), cv2.WARP_INVERSE_MAP
    crop = augment(AugmentSection(), pair, (240, 320))
    zoom, left, top = 0.8284168040911523, 9.705611385081212, 66.10359030617252
    affine = np.array([[zoom, 0, left], [0, zoom, top]])
    grey = (127.5, 127.5, 127.5)
    image = cv2.warpAffine(pair[0], affine, (320, 240), flags=inverse | cv2.INTER_LINEAR, borderValue=grey)
    mask = cv2.warpAffine(pair[1], affine, (320, 240), flags=inverse | cv2.INTER_NEAREST, borderValue=(IGNORE_INDEX,))
    np.testing.assert_array_equal(crop.image, image)
    np.testing.assert_array_equal(crop.mask, mask)
    colour = [
        [1.0505686, 0.05027817, 0.009764414, -2.265833],
        [0.025610173, 1.0752366, 0.009764414, -2.265833],
        [0.025610173, 0.05027817, 1.0347228, -2.265833],
    ]
    np.testing.assert_array_equal(crop.colour, np.array(colour, np.float32))


@pytest.mark.parametrize("option", ["rotate", "translate", "shear", "perspective", "elastic", *PIXELS, "hue", "cutout"])
def test_an_option_changes_no_number_that_another_draws(option: str) -> None:
    """An option that is on but has next to no effect leaves all others' effects as they are."""
    alone = AugmentSection(scale=(0.5, 2), vflip=0.5, **{**GEOMETRY, **PIXELS, option: 0})
    faint = {
        "elastic_sigma": 0, "blur_sigma": (0.1, 0.1), "noise_std": (0, 0), "sharpen_amount": (0, 0),
        "jpeg_quality": (100, 100), "cutout_size": (0.01, 0.01),
    }  # fmt: skip
    strength = {"rotate": 1e-9, "translate": 1e-9, "shear": 1e-9, "perspective": 1e-9, "hue": 1e-9}.get(option, 1)
    own = {key: value for key, value in faint.items() if key.startswith(option)}
    both = AugmentSection(scale=(0.5, 2), vflip=0.5, **{**GEOMETRY, **PIXELS, option: strength, **own})
    smooth = cv2.GaussianBlur(make_pair(60, 80)[0], (0, 0), 3)
    pair = (smooth, cv2.resize(make_pair(6, 8)[1], (80, 60), interpolation=cv2.INTER_NEAREST))
    for number in range(5):
        one, other = augment(alone, pair, (48, 64), number), augment(both, pair, (48, 64), number)
        assert np.mean(one.mask != other.mask) < 0.01
        light = [cv2.cvtColor(crop.image, cv2.COLOR_RGB2GRAY).astype(int) for crop in (one, other)]
        assert np.mean(np.abs(light[0] - light[1]) > 20) < 0.01
        np.testing.assert_allclose(one.colour, other.colour, atol=1e-6)


@pytest.mark.parametrize("option", PIXELS)
def test_a_fault_of_the_camera_changes_the_image_and_never_the_mask(option: str) -> None:
    pair = make_pair(*SIZE)
    plain, faulty = augment(PLAIN, pair, SIZE), augment(changed(**{option: 1}), pair, SIZE)
    np.testing.assert_array_equal(faulty.mask, pair[1])
    assert np.mean(faulty.image != plain.image) > 0.5
    assert faulty.image.dtype == np.uint8
    assert faulty.image.shape == plain.image.shape


def test_everything_at_once_keeps_shapes_and_ids_whatever_the_size_of_the_pair() -> None:
    section = AugmentSection(**GEOMETRY, **PIXELS, hue=180, cutout=3, scale=(0.1, 10))
    for size in ((1, 1), (7, 90), (200, 150)):
        pair = make_pair(*size)
        for number in range(6):
            for margin in (0, 9):
                crop = augment(section, pair, (32, 48), number, margin)
                assert crop.image.shape == (32 + 2 * margin, 48 + 2 * margin, 3)
                assert crop.mask.shape == (32, 48)
                assert set(np.unique(crop.mask)) <= {*np.unique(pair[1]), IGNORE_INDEX}


def test_a_pair_without_a_label_is_cropped_as_any_other() -> None:
    image, mask = make_pair(*SIZE)
    crop = augment(changed(balance=1), (image, np.full_like(mask, IGNORE_INDEX)), SIZE)
    np.testing.assert_array_equal(crop.image, image)
    assert np.all(crop.mask == IGNORE_INDEX)
