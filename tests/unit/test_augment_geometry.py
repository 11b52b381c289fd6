import numpy as np
import pytest
from numpy.typing import NDArray

from tests.unit.augment_cases import PLAIN, SIZE, augment, changed, make_pair, rngs_of
from unet_ray.augment.geometry import Warp, locate, sample_affine, sample_distortion, sample_warp
from unet_ray.augment.keys import make_rng
from unet_ray.augment.warp import warp_pair
from unet_ray.config_training import AugmentSection
from unet_ray.schema import IGNORE_INDEX


def test_without_zoom_and_flips_a_full_crop_is_the_pair_itself() -> None:
    pair = make_pair(*SIZE)
    crop = augment(PLAIN, pair, SIZE)
    np.testing.assert_array_equal(crop.image, pair[0])
    np.testing.assert_array_equal(crop.mask, pair[1])


@pytest.mark.parametrize(("flip", "axes"), [("hflip", (1,)), ("vflip", (0,))])
def test_a_flip_is_exact(flip: str, axes: tuple[int, ...]) -> None:
    pair = make_pair(*SIZE)
    crop = augment(changed(**{flip: 1.0}), pair, SIZE)
    np.testing.assert_array_equal(crop.image, np.flip(pair[0], axes))
    np.testing.assert_array_equal(crop.mask, np.flip(pair[1], axes))


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
    return np.array([sample_affine(section, make_rng(0, 1, str(n)), SIZE, crop)[:2] @ corners for n in range(count)])


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
    image, mask, _ = augment(PLAIN, pair, crop)
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


def test_a_mask_keeps_its_class_ids() -> None:
    image, noise = make_pair(*SIZE)
    mask = np.where(noise > 9, 7, 2).astype(np.uint8)
    section = changed(scale=(0.5, 0.5), rotate=20, perspective=0.1, elastic=1)
    assert set(np.unique(augment(section, (image, mask), (64, 64)).mask)) == {2, 7, IGNORE_INDEX}


BENDS = [
    changed(scale=(0.6, 0.6)),
    changed(scale=(1.7, 1.7), hflip=1),
    changed(rotate=30),
    changed(translate=0.3),
    changed(shear=25),
    changed(perspective=0.15),
    changed(elastic=1, elastic_sigma=4),
    changed(elastic=1, elastic_sigma=3, perspective=0.1, rotate=20, shear=10, vflip=1, scale=(1.3, 1.3)),
]


@pytest.mark.parametrize("section", BENDS)
@pytest.mark.parametrize("margin", [0, 6])
def test_image_and_mask_stay_aligned_with_the_map(section: AugmentSection, margin: int) -> None:
    """Pixels that hold their own coordinates tell where each pixel of the crop came from."""
    crop = (40, 50)
    rows, columns = np.mgrid[:60, :70].astype(np.uint8)
    image = np.dstack([columns * 3, rows * 3, np.zeros_like(rows)])
    warp = sample_warp(section, make_rng(0, 1, "a"), rngs_of(3), (60, 70), crop, margin)
    x, y = locate(warp)
    inside = (x >= 0) & (x <= 69) & (y >= 0) & (y <= 59)
    assert inside.mean() > 0.4
    warped, mask_x = warp_pair(image, columns, warp)
    _, mask_y = warp_pair(image, rows, warp)
    assert np.abs(warped[..., 0] / 3 - x)[inside].max() < 0.3
    assert np.abs(warped[..., 1] / 3 - y)[inside].max() < 0.3
    middle = slice(margin, margin + 40), slice(margin, margin + 50)
    known = inside[middle]
    assert np.abs(mask_x - x[middle])[known].max() < 0.55
    assert np.abs(mask_y - y[middle])[known].max() < 0.55
    far = (x < -0.6) | (x > 69.6) | (y < -0.6) | (y > 59.6)
    assert np.all(mask_x[far[middle]] == IGNORE_INDEX)


@pytest.mark.parametrize("section", BENDS)
def test_a_mark_is_at_the_same_place_in_image_and_mask(section: AugmentSection) -> None:
    image, mask = np.zeros((60, 70, 3), np.uint8), np.zeros((60, 70), np.uint8)
    image[28:35, 32:41], mask[28:35, 32:41] = 255, 5
    crop = augment(section, (image, mask), (48, 60), 3)
    marked = crop.mask == 5
    assert marked.sum() > 10
    assert crop.image[marked].min() >= 60  # what is nearest has the largest share, a quarter at least
    assert crop.image[crop.mask == 0].max() <= 195


@pytest.mark.parametrize("section", BENDS[:5])  # the others are drawn for the crop with its margin
def test_a_margin_shows_more_of_the_same_picture_around_the_same_crop(section: AugmentSection) -> None:
    pair, crop = make_pair(90, 120), (30, 40)
    with_margin, without = augment(section, pair, crop, margin=8), augment(section, pair, crop)
    np.testing.assert_array_equal(with_margin.mask, without.mask)
    seen = without.mask != IGNORE_INDEX
    differ = np.abs(with_margin.image[8:-8, 8:-8].astype(int) - without.image)[seen]
    assert np.mean(differ > 8) < 0.01  # places are rounded to 1/32 px, from another corner


def test_a_margin_outside_the_frame_is_mirrored_and_the_mask_is_not() -> None:
    pair = make_pair(*SIZE)
    crop = augment(PLAIN, pair, SIZE, margin=5)
    np.testing.assert_array_equal(crop.image, np.pad(pair[0], ((5, 5), (5, 5), (0, 0)), "reflect"))
    np.testing.assert_array_equal(crop.mask, pair[1])
    larger = augment(PLAIN, pair, (30, 40), margin=2)
    assert not np.any(np.all(larger.image == 128, axis=2))
    assert np.any(larger.mask == IGNORE_INDEX)


def places(matrix: NDArray[np.float64], *points: complex) -> list[complex]:
    mapped = [matrix @ (point.real, point.imag, 1) for point in points]
    return [complex(x / w, y / w) for x, y, w in mapped]


CROP = (41, 61)
MIDDLE = 30 + 20j
CORNERS = (0 + 0j, 60 + 0j, 60 + 40j, 0 + 40j)


def test_a_rotation_turns_the_crop_about_its_middle_by_the_angle_that_was_drawn() -> None:
    for number in range(10):
        angle = np.radians(30 * make_rng(0, 1, str(number), "distort").uniform(-1, 1))
        matrix = sample_distortion(changed(rotate=30), rngs_of(number)("distort"), CROP)
        wanted = [MIDDLE + (corner - MIDDLE) * np.exp(1j * angle) for corner in CORNERS]
        np.testing.assert_allclose(places(matrix, MIDDLE, *CORNERS), [MIDDLE, *wanted], atol=1e-9)
        np.testing.assert_array_equal(matrix[2], (0, 0, 1))


def test_a_shear_leans_uprights_and_leaves_rows_where_they_are() -> None:
    for number in range(10):
        lean = np.radians(20 * make_rng(0, 1, str(number), "distort").uniform(-1, 1, 2)[1])
        matrix = sample_distortion(changed(shear=20), rngs_of(number)("distort"), CROP)
        hand = np.array([[1, np.tan(lean), -20 * np.tan(lean)], [0, 1, 0], [0, 0, 1]])
        np.testing.assert_allclose(matrix, hand, atol=1e-9)


def test_a_shift_is_a_share_of_the_crop() -> None:
    shifts = np.array([sample_distortion(changed(translate=0.25), rngs_of(n)("distort"), CROP) for n in range(400)])
    np.testing.assert_allclose(shifts[:, :2, :2], np.broadcast_to(np.eye(2), (400, 2, 2)), atol=1e-12)
    for axis, size in ((0, 61), (1, 41)):
        assert 0.97 * 0.25 * size < np.abs(shifts[:, axis, 2]).max() <= 0.25 * size
        assert abs(shifts[:, axis, 2].mean()) < 0.03 * size


@pytest.mark.parametrize("margin", [0, 12])
def test_perspective_moves_each_corner_by_a_share_of_the_crop_and_keeps_lines_straight(margin: int) -> None:
    outer = [complex(x, y) for x in (-0.5 - margin, 60.5 + margin) for y in (-0.5 - margin, 40.5 + margin)]
    for number in range(50):
        matrix = sample_distortion(changed(perspective=0.2), rngs_of(number)("distort"), CROP, margin)
        moved = np.array(places(matrix, *outer)) - outer
        assert np.abs(moved.real).max() <= 0.2 * (61 + 2 * margin) + 1e-3
        assert np.abs(moved.imag).max() <= 0.2 * (41 + 2 * margin) + 1e-3
        assert min(matrix[2] @ (corner.real, corner.imag, 1) for corner in outer) > 0
        start, half, end = places(matrix, 0 + 40j, 30 + 20j, 60 + 0j)
        assert abs(((half - start) * (end - start).conjugate()).imag) < 1e-6 * abs(end - start) ** 2


def bent(shifts: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return how far each pixel of a 41 x 61 crop is moved by a grid."""
    y, x = np.mgrid[:41, :61]
    places = locate(Warp(matrix=np.eye(3), shifts=shifts, crop=CROP, margin=0))
    return np.moveaxis(places - np.stack([x, y]), 0, -1)


def test_elastic_nodes_move_as_drawn_and_what_lies_between_is_bicubic() -> None:
    shifts = np.random.default_rng(0).normal(0, 5, (3, 3, 2))
    np.testing.assert_allclose(bent(shifts)[::20, ::30], shifts, atol=1e-4)
    hat = np.zeros((3, 3, 2))
    hat[:, 1, 0] = 16
    np.testing.assert_allclose(bent(hat)[7, [0, 15, 30, 45, 60], 0], [0, 10, 16, 10, 0], atol=1e-4)  # 16 * 0.625
    slope = np.zeros((3, 3, 2))
    slope[..., 1] = [[-3], [0], [3]]
    np.testing.assert_allclose(bent(slope)[..., 1], np.broadcast_to(np.linspace(-3, 3, 41)[:, None], CROP), atol=1e-4)


def test_elastic_shifts_have_the_spread_that_was_asked_for() -> None:
    section = changed(elastic=1, elastic_sigma=7)
    warps = [sample_warp(section, make_rng(0, 1, str(n)), rngs_of(n), (60, 70), CROP) for n in range(300)]
    shifts = np.array([warp.shifts for warp in warps])
    assert np.std(shifts) == pytest.approx(7, rel=0.05)
    assert abs(np.mean(shifts)) < 0.3


def test_an_elastic_deformation_without_spread_is_none() -> None:
    image, mask = make_pair(60, 80)
    section = {"scale": (0.8, 1.6), "rotate": 20}
    for number in range(4):
        still = augment(changed(**section, elastic=1, elastic_sigma=0), (image, mask), (40, 50), number)
        none = augment(changed(**section), (image, mask), (40, 50), number)
        assert np.mean(still.mask != none.mask) < 0.02  # ties, and 1/32 px of rounding
        assert np.mean(np.abs(still.image.astype(int) - none.image) > 16) < 0.02


@pytest.mark.parametrize("section", [*BENDS, changed(scale=(0.5, 0.5)), changed(scale=(3, 3))])
@pytest.mark.parametrize("crop", [(20, 24), (90, 110)])
def test_a_crop_holds_the_pixel_it_was_placed_on(section: AugmentSection, crop: tuple[int, int]) -> None:
    image, mask = np.zeros((60, 70, 3), np.uint8), np.zeros((60, 70), np.uint8)
    for number, focus in enumerate([(0, 0), (69, 59), (13, 40), (69, 3), (30, 30)]):
        mask[:] = 0
        mask[focus[1], focus[0]] = 1
        warp = sample_warp(section, make_rng(0, 1, str(number)), rngs_of(number), mask.shape, crop, focus=focus)
        assert 1 in warp_pair(image, mask, warp)[1]


def test_the_pixel_a_crop_is_placed_on_can_be_anywhere_in_it() -> None:
    places = []
    for number in range(300):
        warp = sample_warp(changed(), make_rng(0, 1, str(number)), rngs_of(number), (90, 90), (30, 30), focus=(50, 45))
        places.append(np.subtract((50, 45), warp.matrix[:2, 2]))
    across, down = np.array(places).T
    for place in (across, down):
        assert -0.01 < place.min() < 2
        assert 27 < place.max() < 29.01
        assert np.std(place) == pytest.approx(30 / np.sqrt(12), rel=0.1)


def test_a_crop_that_is_placed_on_a_pixel_still_lies_in_the_frame() -> None:
    image, mask = make_pair(60, 70)
    for number in range(30):
        crop = augment(changed(balance=1, scale=(1, 2)), (image, mask), (40, 50), number)
        assert np.mean(crop.mask == IGNORE_INDEX) < 0.06  # half a pixel along an edge at most


def test_rare_classes_are_cropped_as_often_as_common_ones() -> None:
    mask = np.zeros((120, 160), np.uint8)
    mask[50:53, 80:83], mask[:40, :40] = 7, IGNORE_INDEX
    pair = np.zeros((120, 160, 3), np.uint8), mask
    held = [7 in augment(changed(balance=1), pair, (24, 32), number).mask for number in range(200)]
    by_chance = [7 in augment(PLAIN, pair, (24, 32), number).mask for number in range(200)]
    assert np.mean(by_chance) < 0.15
    assert 0.45 < np.mean(held) < 0.68  # half of the crops are placed on it, some others meet it


def test_what_lies_beyond_a_horizon_costs_no_time() -> None:
    pair = make_pair(20, 20)
    section = changed(perspective=0.2, elastic=1, elastic_sigma=100)
    for number in range(10):
        warp = sample_warp(section, make_rng(0, 1, "a"), rngs_of(number), (20, 20), (64, 64), margin=16)
        assert np.abs(locate(warp)).max() <= 2**15
        assert warp_pair(*pair, warp)[0].shape == (96, 96, 3)
