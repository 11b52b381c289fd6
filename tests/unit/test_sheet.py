import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.unit.tiny_dataset import CLASSES
from unet_ray.cli import run_stage
from unet_ray.config import Config, RunSection
from unet_ray.config_input import DataSection
from unet_ray.config_training import AugmentSection
from unet_ray.errors import TableError
from unet_ray.schema import IGNORE_INDEX
from unet_ray.sheet.draw import Strip, Tile, draw_sheet, overlay
from unet_ray.sheet.run import SheetResult, run

PALETTE = ((250, 0, 0), (0, 250, 0), (0, 0, 250))


def read_png(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def tile(image: tuple[int, int, int], class_id: int) -> Tile:
    return Tile(np.full((48, 64, 3), image, np.uint8), np.full((48, 64), class_id, np.uint8))


def test_masks_are_laid_over_in_their_colours_and_what_is_ignored_is_striped() -> None:
    grey = tile((100, 100, 100), 1)
    grey.mask[:, 32:] = IGNORE_INDEX
    laid = overlay(grey, PALETTE)
    np.testing.assert_array_equal(laid[:, :32], np.broadcast_to((45, 182, 45), (48, 32, 3)))
    striped = laid[:, 32:]
    assert {tuple(pixel) for pixel in striped.reshape(-1, 3).tolist()} == {(45, 45, 45), (185, 185, 185)}
    assert 0.45 < np.mean(striped == 45) < 0.55


def test_a_sheet_shows_every_crop_alone_and_under_its_mask() -> None:
    colours = [(200, 180, 30), (30, 180, 200), (120, 60, 180), (80, 90, 20)]
    tiles = [tile(colour, 2) for colour in colours]
    strips = [Strip("a", tiles[0], [tiles[1]]), Strip("b" * 99, tiles[2], [tiles[3]])]
    picture = read_png(draw_sheet(strips, "title", ("x", "y", "z"), PALETTE)).reshape(-1, 3)
    for colour, one in zip(colours, tiles, strict=True):
        for shown in (colour, overlay(one, PALETTE)[0, 0]):
            assert np.mean(np.all(picture == shown, axis=1)) > 0.03
    for shown in PALETTE:
        assert np.any(np.all(picture == shown, axis=1))


def test_the_sheet_of_a_dataset_lies_in_its_run_and_is_the_same_each_time(
    dataset_uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = Config(
        run=RunSection(name="seen", storage=str(tmp_path)),
        data=DataSection(dataset=dataset_uri),
        augment=AugmentSection(elastic=1, cutout=1, crop=(16, 32)),
    )
    assert run(config) == SheetResult(sheet=f"{tmp_path}/seen/augment.png", pairs=4, epochs=5)
    assert f"{tmp_path}/seen/augment.png" in capsys.readouterr().err
    first = (tmp_path / "seen/augment.png").read_bytes()
    assert min(read_png(first).shape[:2]) > 700
    run(config)
    assert (tmp_path / "seen/augment.png").read_bytes() == first
    for colour in CLASSES.palette[:2]:
        assert np.any(np.all(read_png(first) == colour, axis=2))


def test_the_command_tells_where_the_sheet_is(
    dataset_uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"run: {{storage: {tmp_path}}}\ndata: {{dataset: {dataset_uri}}}\n")
    assert run_stage("augment", [str(path)]) == 0
    assert capsys.readouterr().out == f'{{"sheet": "{tmp_path}/run/augment.png", "pairs": 4, "epochs": 5}}\n'


def test_a_dataset_that_was_never_prepared_is_named(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"run/dataset: no table here .*run the job first"):
        run(Config(run=RunSection(storage=str(tmp_path))))
