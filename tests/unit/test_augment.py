import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from unet_ray.augment import make_rng, normalise_colour, sample_affine, sample_colour, warp_pair
from unet_ray.config_training import AugmentSection
from unet_ray.schema import IGNORE_INDEX

Bytes = NDArray[np.uint8]

PLAIN = AugmentSection(hflip=0, vflip=0, scale=(1, 1), brightness=0, contrast=0, saturation=0)
SIZE = (24, 36)


def changed(**changes: object) -> AugmentSection:
    fields = {name: getattr(PLAIN, name) for name in AugmentSection.__dataclass_fields__}
    return AugmentSection(**fields | changes)


def make_pair(height: int, width: int) -> tuple[Bytes, Bytes]:
    rng = np.random.default_rng(0)
    image = rng.integers(256, size=(height, width, 3), dtype=np.uint8)
    return image, rng.integers(20, size=(height, width), dtype=np.uint8)


def warp(
    section: AugmentSection, pair: tuple[Bytes, Bytes], crop: tuple[int, int], seed: int = 0
) -> tuple[Bytes, Bytes]:
    return warp_pair(*pair, sample_affine(section, make_rng(seed, 1, "a"), pair[1].shape, crop), crop)


def test_the_random_numbers_of_a_pair_follow_from_its_key() -> None:
    def draw(seed: int, epoch: int, image_id: str) -> tuple[float, ...]:
        return tuple(make_rng(seed, epoch, image_id).random(4).tolist())

    assert draw(0, 1, "a.png") == draw(0, 1, "a.png")
    keys = [(0, 1, "a.png"), (1, 1, "a.png"), (0, 2, "a.png"), (0, 1, "b.png"), (11, 1, "a.png"), (1, 11, "a.png")]
    assert len({draw(*key) for key in keys}) == len(keys)


def test_the_random_numbers_of_a_pair_never_change() -> None:
    assert make_rng(0, 1, "a.png").integers(1000, size=4).tolist() == [707, 146, 502, 519]


def test_a_whole_augmentation_is_repeated_by_its_key() -> None:
    section, pair = AugmentSection(), make_pair(*SIZE)
    for first, second in zip(warp(section, pair, (16, 16)), warp(section, pair, (16, 16)), strict=True):
        np.testing.assert_array_equal(first, second)
    assert not np.array_equal(warp(section, pair, (16, 16))[0], warp(section, pair, (16, 16), seed=1)[0])


def test_without_zoom_and_flips_a_full_crop_is_the_pair_itself() -> None:
    pair = make_pair(*SIZE)
    image, mask = warp(PLAIN, pair, SIZE)
    np.testing.assert_array_equal(image, pair[0])
    np.testing.assert_array_equal(mask, pair[1])


@pytest.mark.parametrize(("flip", "axes"), [("hflip", (1,)), ("vflip", (0,))])
def test_a_flip_is_exact(flip: str, axes: tuple[int, ...]) -> None:
    pair = make_pair(*SIZE)
    image, mask = warp(changed(**{flip: 1.0}), pair, SIZE)
    np.testing.assert_array_equal(image, np.flip(pair[0], axes))
    np.testing.assert_array_equal(mask, np.flip(pair[1], axes))


def test_flips_are_drawn_as_often_as_asked() -> None:
    flipped = [
        sample_affine(changed(hflip=0.3), make_rng(0, 1, str(number)), SIZE, SIZE)[0, 0] < 0 for number in range(600)
    ]
    assert 0.24 < np.mean(flipped) < 0.36


FLIPS = [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)]


def seen_corners(zoom: float, flips: tuple[float, float], crop: tuple[int, int], count: int) -> NDArray[np.float64]:
    """Return where the outer corners of crops lie in the pair: ``(count, 2, 2)``, x and y of two opposite corners."""
    section = changed(scale=(zoom, zoom), hflip=flips[0], vflip=flips[1])
    corners = np.array([[-0.5, -0.5, 1], [crop[1] - 0.5, crop[0] - 0.5, 1]]).T
    return np.array([sample_affine(section, make_rng(0, 1, str(n)), SIZE, crop) @ corners for n in range(count)])


@pytest.mark.parametrize("flips", FLIPS)
@pytest.mark.parametrize("zoom", [0.5, 1, 2])
def test_a_crop_of_the_size_of_the_zoomed_pair_covers_it_exactly(zoom: float, flips: tuple[float, float]) -> None:
    (seen,) = seen_corners(zoom, flips, (int(SIZE[0] * zoom), int(SIZE[1] * zoom)), 1)
    np.testing.assert_allclose(np.sort(seen), [[-0.5, SIZE[1] - 0.5], [-0.5, SIZE[0] - 0.5]], atol=1e-9)


@pytest.mark.parametrize("flips", FLIPS)
def test_a_smaller_crop_lies_inside_the_pair_and_reaches_its_edges(flips: tuple[float, float]) -> None:
    x, y = seen_corners(1.2, flips, (10, 20), 300).swapaxes(0, 1)
    for edge, size in ((x, SIZE[1]), (y, SIZE[0])):
        assert -0.5 - 1e-9 <= edge.min() < 0
        assert size - 1 < edge.max() <= size - 0.5 + 1e-9


def test_a_larger_crop_holds_the_whole_pair_and_ignores_the_rest() -> None:
    pair, crop = make_pair(8, 12), (20, 30)
    image, mask = warp(PLAIN, pair, crop)
    assert (mask != IGNORE_INDEX).sum() == pytest.approx(8 * 12, abs=8 + 12)
    rows, columns = np.nonzero(mask != IGNORE_INDEX)
    outside = np.ones(crop, bool)
    outside[rows.min() - 1 : rows.max() + 2, columns.min() - 1 : columns.max() + 2] = False
    assert np.all(mask[outside] == IGNORE_INDEX)
    assert np.all(image[outside] == 128)
    assert outside.sum() > 300


def test_zoom_is_drawn_evenly_on_a_logarithmic_scale_within_its_range() -> None:
    zooms = [1 / sample_affine(changed(scale=(0.5, 2)), make_rng(0, 1, str(n)), SIZE, SIZE)[0, 0] for n in range(600)]
    assert min(zooms) >= 0.5
    assert max(zooms) <= 2
    assert 0.44 < np.mean(np.array(zooms) < 1) < 0.56


@pytest.mark.parametrize("scale", [0.6, 1.0, 1.7])
@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_image_and_mask_stay_aligned_with_the_map(scale: float, flip: float) -> None:
    """Pixels that hold their own coordinates tell where each pixel of the crop came from."""
    crop = (40, 50)
    rows, columns = np.mgrid[:60, :70].astype(np.uint8)
    image = np.dstack([columns * 3, rows * 3, np.zeros_like(rows)])
    affine = sample_affine(changed(scale=(scale, scale), hflip=flip), make_rng(0, 1, "a"), (60, 70), crop)
    y, x = np.mgrid[: crop[0], : crop[1]]
    source_x, source_y = np.einsum("ij,jhw->ihw", affine, np.stack([x, y, np.ones_like(x)]))
    inside = (source_x >= 0) & (source_x <= 69) & (source_y >= 0) & (source_y <= 59)
    assert inside.mean() > 0.5
    warped, mask_x = warp_pair(image, columns, affine, crop)
    _, mask_y = warp_pair(image, rows, affine, crop)
    assert np.abs(warped[..., 0] / 3 - source_x)[inside].max() < 0.3
    assert np.abs(warped[..., 1] / 3 - source_y)[inside].max() < 0.3
    assert np.abs(mask_x - source_x)[inside].max() < 0.55
    assert np.abs(mask_y - source_y)[inside].max() < 0.55


def test_a_mask_keeps_its_class_ids() -> None:
    pair = make_pair(*SIZE)
    _, mask = warp(AugmentSection(scale=(0.5, 2)), (pair[0], np.where(pair[1] > 9, 7, 2).astype(np.uint8)), (64, 64))
    assert set(np.unique(mask)) == {2, 7, IGNORE_INDEX}


def test_a_colour_map_without_spread_changes_nothing() -> None:
    np.testing.assert_array_equal(sample_colour(PLAIN, make_rng(0, 1, "a")), np.eye(3, 4, dtype=np.float32))


def apply(matrix: NDArray[np.float32], rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(rgb @ matrix[:, :3].T.astype(np.float64) + matrix[:, 3])


RGB = np.array([[0.0, 0, 0], [255, 255, 255], [200, 30, 90], [127.5, 127.5, 127.5]])


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
        np.testing.assert_allclose(saturated[[0, 1, 3]], RGB[[0, 1, 3]], atol=1e-3)
        np.testing.assert_allclose(saturated @ [0.299, 0.587, 0.114], RGB @ [0.299, 0.587, 0.114], atol=1e-3)


def test_saturation_zero_is_grey() -> None:
    spread = changed(saturation=1)
    matrices = [sample_colour(spread, make_rng(0, 1, str(number))) for number in range(200)]
    greyest = min(matrices, key=lambda matrix: float(matrix[0, 0]))
    grey = cv2.cvtColor(np.array([[[200, 30, 90]]], np.uint8), cv2.COLOR_RGB2GRAY)[0, 0]
    np.testing.assert_allclose(apply(greyest, RGB)[2], [grey] * 3, atol=4)


def test_colour_and_normalisation_are_composed_into_one_map() -> None:
    mean, std = np.array([100, 110, 120], np.float32), np.array([50, 60, 70], np.float32)
    colour = sample_colour(AugmentSection(), make_rng(0, 1, "a"))
    before = colour.copy()
    composed = normalise_colour(colour, mean, std)
    np.testing.assert_allclose(apply(composed, RGB), (apply(colour, RGB) - mean) / std, atol=1e-5)
    np.testing.assert_array_equal(colour, before)
    assert composed.shape == (3, 4)
    assert composed.dtype == np.float32
