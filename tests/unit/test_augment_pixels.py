import cv2
import numpy as np
import pytest

from tests.unit.augment_cases import PLAIN, SIZE, augment, changed, make_pair, rngs_of
from unet_ray.augment.balance import sample_focus
from unet_ray.augment.cutout import cut_out
from unet_ray.augment.degrade import degrade
from unet_ray.schema import IGNORE_INDEX

GREY = np.full((120, 160, 3), 128, np.uint8)


def test_without_faults_an_image_is_left_alone() -> None:
    image = make_pair(*SIZE)[0]
    assert degrade(image, PLAIN, rngs_of(0)) is image


def test_noise_has_the_spread_that_was_asked_for_and_no_offset() -> None:
    noisy = degrade(GREY, changed(noise=1, noise_std=(8, 8)), rngs_of(0)).astype(float)
    assert noisy.std() == pytest.approx(8, rel=0.02)
    assert noisy.mean() == pytest.approx(128, abs=0.1)
    assert abs(np.corrcoef(noisy[..., 0].ravel(), noisy[..., 1].ravel())[0, 1]) < 0.03
    spreads = [
        degrade(GREY[:30], changed(noise=1, noise_std=(4, 12)), rngs_of(number)).std(dtype=float)
        for number in range(100)
    ]
    assert 3.8 < min(spreads) < 5
    assert 11 < max(spreads) < 12.5
    assert np.mean(spreads) == pytest.approx(8, abs=0.8)


def test_noise_stays_within_the_values_of_a_pixel() -> None:
    dark = degrade(np.zeros_like(GREY), changed(noise=1, noise_std=(20, 20)), rngs_of(0))
    assert 0.45 < np.mean(dark == 0) < 0.55
    assert 60 < dark.max() < 120


def test_blur_is_gaussian_of_the_sigma_that_was_drawn() -> None:
    dot = np.zeros((31, 31, 3), np.uint8)
    dot[15, 15] = 255
    blurred = degrade(dot, changed(blur=1, blur_sigma=(1.5, 1.5)), rngs_of(0))
    y, x = np.mgrid[-15:16, -15:16]
    gauss = np.exp(-(x**2 + y**2) / (2 * 1.5**2))
    np.testing.assert_allclose(blurred[..., 1], 255 * gauss / gauss.sum(), atol=1.1)


def test_sharpening_steepens_an_edge_and_leaves_flat_areas() -> None:
    edge = np.full((20, 40, 3), 80, np.uint8)
    edge[:, 20:] = 160
    sharp = degrade(edge, changed(sharpen=1, sharpen_amount=(1, 1)), rngs_of(0)).astype(int)
    np.testing.assert_array_equal(sharp[:, [0, 1, -1]], edge[:, [0, 1, -1]])
    assert sharp[10, 19, 0] < 65
    assert sharp[10, 20, 0] > 175


def test_a_jpeg_keeps_the_colours_in_their_channels_and_is_worse_at_low_quality() -> None:
    image = cv2.GaussianBlur(make_pair(64, 96)[0], (0, 0), 3)
    image[..., 0] //= 2
    errors = []
    for quality in (95, 10):
        stored = degrade(image, changed(jpeg=1, jpeg_quality=(quality, quality)), rngs_of(0))
        errors.append(np.abs(stored.astype(float) - image).mean())
    assert errors[0] < 2 < errors[1] < 12


def test_faults_come_in_the_order_of_a_camera() -> None:
    section = {"blur": 1, "noise": 1, "sharpen": 1, "jpeg": 1}
    image = make_pair(40, 60)[0]
    one_by_one = image
    for option in ("blur", "noise", "sharpen", "jpeg"):
        one_by_one = degrade(one_by_one, changed(**{option: 1}), rngs_of(0))
    np.testing.assert_array_equal(degrade(image, changed(**section), rngs_of(0)), one_by_one)


@pytest.mark.parametrize("margin", [0, 7])
def test_hidden_rectangles_are_grey_in_the_image_and_ignored_in_the_mask(margin: int) -> None:
    image, mask = np.zeros((60 + 2 * margin, 80 + 2 * margin, 3), np.uint8), np.full((60, 80), 3, np.uint8)
    hidden_image, hidden_mask = cut_out(image, mask, changed(cutout=2), rngs_of(0))
    hidden = np.zeros(image.shape[:2], bool)
    hidden[margin : margin + 60, margin : margin + 80] = hidden_mask == IGNORE_INDEX
    assert np.any(hidden)
    assert np.all(hidden_image[hidden] == 128)
    assert np.all(hidden_image[~hidden] == 0)
    assert not np.any(image)
    assert np.all(mask == 3)


def test_a_rectangle_covers_the_share_that_was_asked_for_anywhere_in_the_crop() -> None:
    image, mask = np.zeros((100, 100, 3), np.uint8), np.zeros((100, 100), np.uint8)
    section = changed(cutout=1, cutout_size=(0.2, 0.4))
    hidden = np.array([cut_out(image, mask, section, rngs_of(n))[1] == IGNORE_INDEX for n in range(500)])
    shares = hidden.mean(axis=(1, 2))
    assert 0.04 <= shares.min() < 0.05
    assert 0.14 < shares.max() <= 0.16
    assert shares.mean() == pytest.approx(0.3**2, rel=0.05)
    where = hidden.mean(axis=0)
    assert where[0].any()
    assert where[-1].any()
    assert where[50, 50] == pytest.approx(where[50, 49::-1][:10].mean(), abs=0.05)


def test_the_whole_crop_can_be_hidden() -> None:
    crop = augment(changed(cutout=1, cutout_size=(1, 1)), make_pair(*SIZE), (16, 16))
    assert np.all(crop.mask == IGNORE_INDEX)
    assert np.all(crop.image == 128)


def test_every_class_of_a_mask_is_drawn_alike_and_each_of_its_pixels() -> None:
    mask = np.full((30, 40), IGNORE_INDEX, np.uint8)
    mask[:, :20], mask[5, 30], mask[9, 31:33] = 0, 4, 9
    drawn = [sample_focus(rngs_of(number)("balance"), mask) for number in range(600)]
    pixels = [focus for focus in drawn if focus is not None]
    assert len(pixels) == 600
    classes = np.array([mask[y, x] for x, y in pixels])
    for class_id in (0, 4, 9):
        assert np.mean(classes == class_id) == pytest.approx(1 / 3, abs=0.06)
    assert {focus for focus in pixels if mask[focus[1], focus[0]] in (4, 9)} == {(30, 5), (31, 9), (32, 9)}
    assert sample_focus(rngs_of(0)("balance"), np.full((3, 3), IGNORE_INDEX, np.uint8)) is None


def test_faults_happen_independently_of_each_other() -> None:
    image = make_pair(8, 8)[0]
    happened = [
        [degrade(image, changed(**{option: 0.5}), rngs_of(number)) is not image for number in range(300)]
        for option in ("blur", "noise", "sharpen", "jpeg")
    ]
    assert np.abs(np.corrcoef(happened) - np.eye(4)).max() < 0.2
