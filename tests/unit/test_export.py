"""Masks as files; the cluster is a loop here."""

import csv
import json
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.unit.image_files import POLICY
from tests.unit.inline_table import SHARD_ROWS, UNIT_ROWS, begin, finish
from unet_ray import export
from unet_ray.config_input import LabelsSection
from unet_ray.errors import ConfigError, ExistsError, TableError
from unet_ray.export import Format
from unet_ray.images.paint import blend
from unet_ray.labels.scheme import make_class_map
from unet_ray.table.read import open_table

pytestmark = pytest.mark.usefixtures("inline_tasks")

CLASSES = make_class_map(
    LabelsSection(classes=("road", "sky", "car"), palette=((128, 64, 128), (0, 0, 255), (1, 2, 3)), ignore_ids=())
)
FACTS = asdict(CLASSES) | {"mask_encoding": "raw"}
GOOD = (0, 1, 2, 4, 5, 7, 8)


@pytest.fixture
def uri(tmp_path: Path) -> str:
    """Publish the inline table, with photos of the sizes of its masks; that of row 5 is gone."""
    rows = []
    for number in range(9):
        path = tmp_path / "photos" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        if number != 5:
            photo = np.random.default_rng(number).integers(256, size=(2, 3 + number % 2, 3), dtype=np.uint8)
            cv2.imwrite(str(path), photo)
        rows.append(
            {"image_id": f"../{number}.png", "image_uri": str(path), "group": "g", "frame": number, "split": ""}
        )
    settings = {f"images.{key}": value for key, value in asdict(POLICY).items()}
    uri = str(tmp_path / "table")
    finish(begin(uri, rows, facts=FACTS, settings=settings))
    return uri


def masks_of(uri: str) -> dict[int, np.ndarray]:
    rows = open_table(uri).read(["row_id", "pred_mask", "height", "width"]).to_pylist()
    return {
        row["row_id"]: np.frombuffer(row["pred_mask"], np.uint8).reshape(row["height"], row["width"])
        for row in rows
        if row["pred_mask"] is not None
    }


def listed(folder: Path) -> dict[int, dict[str, str]]:
    found = {}
    for path in sorted(folder.glob("index-*.csv")):
        with path.open(newline="") as file:
            found |= {int(row["row_id"]): row for row in csv.DictReader(file)}
    return found


@pytest.mark.parametrize("kind", ["index", "palette"])
def test_files_hold_the_very_ids_and_palettes_their_colours(uri: str, kind: Format, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    found = export.run(uri, str(folder), kind, None)
    assert (found.files, found.unreadable) == (len(GOOD), 0)
    names = listed(folder)
    assert tuple(names) == GOOD
    for row_id, mask in masks_of(uri).items():
        assert names[row_id]["image_id"] == f"../{row_id}.png"
        with Image.open(folder / names[row_id]["file"]) as picture:
            np.testing.assert_array_equal(np.asarray(picture), mask)
            if kind == "palette":
                colours = np.array(CLASSES.palette, np.uint8)[mask]
                np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), colours)
    document = json.loads((folder / "classes.json").read_text())
    assert [one["name"] for one in document["classes"]] == ["road", "sky", "car"]
    assert len(list(folder.iterdir())) == len(GOOD) + 1 + -(-9 // SHARD_ROWS)


def test_overlays_are_half_photo_half_colour_and_lost_photos_are_counted(uri: str, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    found = export.run(uri, str(folder), "overlay", None)
    assert (found.files, found.unreadable) == (len(GOOD) - 1, 1)
    assert 5 not in listed(folder)
    for row_id, row in listed(folder).items():
        photo = cv2.imread(str(tmp_path / "photos" / f"{row_id}.png"))[:, :, ::-1]
        expected = (photo.astype(int) + np.array(CLASSES.palette)[masks_of(uri)[row_id]]) // 2
        np.testing.assert_array_equal(blend(photo, masks_of(uri)[row_id], CLASSES.palette), expected)
        with Image.open(folder / row["file"]) as picture:
            assert picture.size == photo.shape[1::-1]


def test_a_condition_chooses_rows(uri: str, tmp_path: Path) -> None:
    found = export.run(uri, str(tmp_path / "out"), "index", "frame >= 4 AND width = 4")
    assert found.files == 2
    assert tuple(listed(tmp_path / "out")) == (5, 7)
    assert UNIT_ROWS == 2  # so that the rows chosen share units with others
    with pytest.raises(ConfigError, match="query: "):
        export.run(uri, str(tmp_path / "other"), "index", "no such thing")


def test_an_export_is_repeated_as_it_is_and_never_mixed_with_another(uri: str, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    export.run(uri, str(folder), "index", None)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    export.run(uri, str(folder), "index", None)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    with pytest.raises(ExistsError, match=r"holds the export of another table or kind \(classes\.json\)"):
        export.run(uri, str(folder), "palette", None)


def test_only_predictions_are_exported(dataset_uri: str, tmp_path: Path) -> None:
    with pytest.raises(TableError, match="a table of dataset; export takes a table of predictions"):
        export.run(dataset_uri, str(tmp_path / "out"), "index", None)
