import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray

from unet_ray.config import Config
from unet_ray.config_input import ImagesSection
from unet_ray.config_training import AugmentSection, LossSection
from unet_ray.datasets.prepared import index_split, open_dataset
from unet_ray.errors import ConfigError
from unet_ray.losses.borders import Borders, border_weights
from unet_ray.train.feed import CROPS, Source, make_crop
from unet_ray.train.loop import load_border
from unet_ray.train.run import borders

CPU = torch.device("cpu")
CROP = (16, 24)
PAPER = Borders(class_ids=(1,), weight=10.0, sigma=5.0)


def slow_weights(mask: NDArray[np.uint8], given: Borders) -> NDArray[np.float64]:
    """Follow the definition: flood every cell from a pixel, and measure all pixels against all of its."""
    height, width = mask.shape
    cell_of = np.zeros(mask.shape, int)
    for seed in zip(*np.nonzero(np.isin(mask, given.class_ids)), strict=True):
        open_pixels, number = [seed] if not cell_of[seed] else [], cell_of.max() + 1
        while open_pixels:
            y, x = open_pixels.pop()
            if 0 <= y < height and 0 <= x < width and not cell_of[y, x] and mask[y, x] == mask[seed]:
                cell_of[y, x] = number
                open_pixels += [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
    weights = np.zeros(mask.shape)
    for y, x in np.ndindex(mask.shape):
        distances = sorted(
            np.hypot(*(np.argwhere(cell_of == number) - (y, x)).T).min() for number in range(1, cell_of.max() + 1)
        )
        if len(distances) > 1:
            weights[y, x] = given.weight * np.exp(-((distances[0] + distances[1]) ** 2) / (2 * given.sigma**2))
    return weights


def draw_cells(seed: int, ids: tuple[int, ...]) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    mask = np.zeros((24, 28), np.uint8)
    for _ in range(6):
        y, x = rng.integers(0, 20, 2)
        mask[y : y + rng.integers(1, 9), x : x + rng.integers(1, 9)] = rng.choice(ids)
    return mask


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "given", [PAPER, Borders(class_ids=(1, 3), weight=4.0, sigma=2.0), Borders(class_ids=(3,), weight=50.0, sigma=9.0)]
)
def test_border_weights_are_their_definition(given: Borders, seed: int) -> None:
    mask = draw_cells(seed, ids=(1, 2, 3, 255))
    found = border_weights(mask, given)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, slow_weights(mask, given), atol=1e-3)


def test_the_gap_between_two_cells_weighs_most_and_the_far_field_nothing() -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[10:20, 10:20] = mask[10:20, 22:32] = 1  # two pixels apart: d1 + d2 = 3
    found = border_weights(mask, PAPER)
    assert found.max() == pytest.approx(10 * np.exp(-9 / 50), abs=1e-5)
    assert set(np.argwhere(found == found.max())[:, 1].tolist()) == {19, 20, 21, 22}
    assert found[60, 60] == 0


@pytest.mark.parametrize("cells", [0, 1])
def test_fewer_than_two_cells_have_no_border_between_them(cells: int) -> None:
    assert not border_weights(np.full((9, 9), cells, np.uint8), PAPER).any()


def test_cells_that_meet_at_a_corner_or_are_of_two_classes_are_two() -> None:
    mask = np.zeros((8, 8), np.uint8)
    mask[:4, :4] = mask[4:, 4:] = 1
    assert border_weights(mask, PAPER).max() > 0
    mask[:] = 1
    mask[:, 4:] = 2
    assert border_weights(mask, Borders(class_ids=(1, 2), weight=10, sigma=5)).max() == pytest.approx(
        10 * np.exp(-1 / 50)
    )


def make_source(dataset_uri: str, given: Borders | None) -> Source:
    prepared = open_dataset(dataset_uri)
    return Source(
        train=None,  # type: ignore[arg-type]
        val=None,
        part_uris=tuple(prepared.table.part_uris()),
        classes=prepared.classes,
        policy=ImagesSection(),
        seed=0,
        augment=AugmentSection(scale=(1, 1), hflip=0),
        crop=CROP,
        mean=(0, 0, 0),
        std=(1, 1, 1),
        borders=given,
    )


def test_a_crop_brings_the_border_weights_of_its_mask_to_the_device(dataset_uri: str) -> None:
    rows = index_split(open_dataset(dataset_uri), "train").to_pylist()
    rows = [row for row in rows if row["image_id"] in ("images/left/5.png", "images/left/9.png")]
    given = Borders(class_ids=(1, 2), weight=10, sigma=5)
    crops = [make_crop(row, make_source(dataset_uri, given), epoch=1) for row in rows]
    border_BHW = load_border(pa.Table.from_pylist(crops, schema=CROPS), CROP, CPU)
    assert border_BHW is not None
    assert border_BHW.dtype == torch.float32
    assert len(border_BHW) == 2
    for crop, border in zip(crops, border_BHW.numpy(), strict=True):
        assert crop["mask"] is not None
        mask = np.frombuffer(crop["mask"], np.uint8).reshape(CROP)
        np.testing.assert_allclose(border, border_weights(mask, given), rtol=1e-3)
        assert border.max() > 5


def test_without_border_classes_nothing_is_computed_or_carried(dataset_uri: str) -> None:
    row = index_split(open_dataset(dataset_uri), "train").slice(0, 1).to_pylist()[0]
    crop = make_crop(row, make_source(dataset_uri, None), epoch=1)
    assert crop["border"] is None
    assert load_border(pa.Table.from_pylist([crop], schema=CROPS), CROP, CPU) is None


def test_border_classes_are_found_by_name(dataset_uri: str) -> None:
    prepared = open_dataset(dataset_uri)
    config = Config(loss=LossSection(border_classes=("car", "road"), border_weight=3, border_sigma=2))
    assert borders(config, prepared) == Borders(class_ids=(1, 2), weight=3, sigma=2)
    assert borders(Config(), prepared) is None


def test_a_border_class_that_is_no_class_is_refused_with_those_that_are(dataset_uri: str) -> None:
    with pytest.raises(ConfigError) as caught:
        borders(Config(loss=LossSection(border_classes=("car", "cell"))), open_dataset(dataset_uri))
    assert str(caught.value) == (
        "loss.border_classes: 'cell' is no class of the dataset runs/run/dataset, which has sky, road, car; "
        "name classes whose connected components are cells"
    )
