import colorsys

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.unit.augment_cases import PLAIN, changed
from unet_ray.augment.colour import apply_colour, normalise_colour, sample_colour, turn_hue
from unet_ray.augment.keys import make_rng
from unet_ray.config_training import AugmentSection

LUMA = np.array([0.299, 0.587, 0.114])


def test_a_colour_map_without_spread_changes_nothing() -> None:
    np.testing.assert_array_equal(sample_colour(PLAIN, make_rng(0, 1, "a")), np.eye(3, 4, dtype=np.float32))


def apply(matrix: NDArray[np.float32], rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(rgb @ matrix[:, :3].T.astype(np.float64) + matrix[:, 3])


RGB = np.array([[0.0, 0, 0], [255, 255, 255], [200, 30, 90], [127.5, 127.5, 127.5]])
GREYS = [0, 1, 3]


def test_brightness_scales_contrast_spreads_about_the_middle_and_saturation_moves_from_grey() -> None:
    for number in range(20):
        rng = make_rng(0, 1, str(number))
        brightened = apply(sample_colour(changed(brightness=0.4), rng), RGB)
        factor = brightened[1, 0] / 255
        assert 0.6 <= factor <= 1.4
        np.testing.assert_allclose(brightened, RGB * factor, atol=1e-3)
        contrasted = apply(sample_colour(changed(contrast=0.4), rng), RGB)
        factor = (contrasted[1, 0] - contrasted[0, 0]) / 255
        assert 0.6 <= factor <= 1.4
        np.testing.assert_allclose(contrasted, (RGB - 127.5) * factor + 127.5, atol=1e-3)
        saturated = apply(sample_colour(changed(saturation=0.4), rng), RGB)
        np.testing.assert_allclose(saturated[GREYS], RGB[GREYS], atol=1e-3)
        np.testing.assert_allclose(saturated @ LUMA, RGB @ LUMA, atol=1e-3)


def test_saturation_zero_is_grey() -> None:
    spread = changed(saturation=1)
    matrices = [sample_colour(spread, make_rng(0, 1, str(number))) for number in range(200)]
    greyest = min(matrices, key=lambda matrix: float(matrix[0, 0]))
    grey = cv2.cvtColor(np.array([[[200, 30, 90]]], np.uint8), cv2.COLOR_RGB2GRAY)[0, 0]
    np.testing.assert_allclose(apply(greyest, RGB)[2], [grey] * 3, atol=4)


def test_a_turned_hue_leaves_greys_and_lightness_and_full_turns_come_back() -> None:
    for degrees in (-170.0, -30, 15, 90, 180):
        turned = RGB @ turn_hue(degrees).T
        np.testing.assert_allclose(turned[GREYS], RGB[GREYS], atol=1e-9)
        np.testing.assert_allclose(turned @ LUMA, RGB @ LUMA, atol=1e-9)
    np.testing.assert_allclose(turn_hue(360), np.eye(3), atol=1e-12)
    np.testing.assert_allclose(turn_hue(20) @ turn_hue(40), turn_hue(60), atol=1e-12)


def test_a_hue_turns_by_its_degrees_in_the_chroma_plane() -> None:
    def angle(rgb: NDArray[np.float64]) -> float:
        _, i, q = colorsys.rgb_to_yiq(*rgb)
        return float(np.degrees(np.arctan2(q, i)))

    colour = np.array([0.7, 0.3, 0.4])
    for degrees in (-60, 25, 80):
        assert angle(turn_hue(degrees) @ colour) - angle(colour) == pytest.approx(degrees, abs=1)


def test_hues_are_drawn_within_their_range_and_after_all_other_colours() -> None:
    plain = AugmentSection()
    turns = []
    for number in range(200):
        without = sample_colour(plain, make_rng(0, 1, str(number)))
        with_hue = sample_colour(AugmentSection(hue=30), make_rng(0, 1, str(number)))
        np.testing.assert_array_equal(without[:, 3], with_hue[:, 3])
        turn = np.linalg.solve(without[:, :3].astype(np.float64), with_hue[:, :3])
        turns.append(np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))))
        np.testing.assert_allclose(np.sort_complex(np.linalg.eigvals(turn)).imag.sum(), 0, atol=1e-5)
    assert 29 < max(turns) < 30.01
    assert 13 < np.mean(turns) < 17


def test_colour_and_normalisation_are_composed_into_one_map() -> None:
    mean, std = np.array([100, 110, 120], np.float32), np.array([50, 60, 70], np.float32)
    colour = sample_colour(AugmentSection(hue=20), make_rng(0, 1, "a"))
    before = colour.copy()
    composed = normalise_colour(colour, mean, std)
    np.testing.assert_allclose(apply(composed, RGB), (apply(colour, RGB) - mean) / std, atol=1e-5)
    np.testing.assert_array_equal(colour, before)
    assert composed.shape == (3, 4)
    assert composed.dtype == np.float32


def test_a_picture_to_look_at_is_rounded_and_clipped() -> None:
    image = np.array([[[10, 100, 250]]], np.uint8)
    matrix = np.array([[2, 0, 0, -30], [0, 1, 0, 0.6], [0, 0, 1.5, 0]], np.float32)
    np.testing.assert_array_equal(apply_colour(image, matrix), [[[0, 101, 255]]])
