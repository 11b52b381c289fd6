"""Exports of pictures, and what all exports have in common; the cluster is a loop here."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.unit.export_table import CLASSES, GOOD, LOST_ROW, listed, mask_of, photo_of, publish
from tests.unit.image_files import POLICY
from unet_ray import storage
from unet_ray.errors import ConfigError, ExistsError, TableError
from unet_ray.export import KINDS, Kind
from unet_ray.export import run as driver
from unet_ray.export.run import run
from unet_ray.images.paint import blend, paint

pytestmark = pytest.mark.usefixtures("inline_tasks")

SEGMENTED = tuple(sorted((*GOOD, LOST_ROW)))


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return publish(tmp_path_factory.mktemp("predictions"))


def files_of(folder: Path) -> dict[str, bytes]:
    return {item.key: Path(item.uri).read_bytes() for item in storage.list_objects(str(folder))}


@pytest.mark.parametrize("kind", ["index", "palette"])
def test_files_hold_the_very_ids_and_palettes_their_colours(uri: str, kind: Kind, tmp_path: Path) -> None:
    found = run(uri, str(tmp_path), kind, None)
    assert (found.frames, found.unreadable) == (len(SEGMENTED), 0)
    rows = listed(tmp_path)
    assert [int(row["row_id"]) for row in rows] == list(SEGMENTED)
    for row in rows:
        mask = mask_of(int(row["row_id"]))
        with Image.open(tmp_path / row["file"]) as picture:
            np.testing.assert_array_equal(np.asarray(picture), mask)
            if kind == "palette":
                np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), paint(mask, CLASSES.palette))
    document = json.loads((tmp_path / "classes.json").read_text())
    assert [one["name"] for one in document["classes"]] == list(CLASSES.classes)
    assert sorted(files_of(tmp_path)) == sorted(
        [*(row["file"] for row in rows), "frames.csv", "classes.json", "_SUCCESS.json"]
    )


def test_the_list_has_image_ids_and_scores(uri: str, tmp_path: Path) -> None:
    run(uri, str(tmp_path), "index", None)
    first, second, third, *_ = listed(tmp_path)
    assert first | {"image_uri": ""} == {
        "file": "000000000.png", "row_id": "0", "image_id": "../0.png", "image_uri": "", "group": "drive",
        "frame": "100", "split": "val", "miou": "1.0", "expected_miou": "0.5", "pixel_accuracy": "1.0",
        "confidence": "1.0", "uncertainty": "0.2",
    }  # fmt: skip
    assert Path(second["image_uri"]).name == "1.jpg"
    assert (third["miou"], third["pixel_accuracy"]) == ("", "")  # without truth


def test_overlays_are_half_photo_half_colour_and_lost_photos_are_counted(uri: str, tmp_path: Path) -> None:
    found = run(uri, str(tmp_path), "overlay", None)
    assert (found.frames, found.unreadable) == (len(GOOD), 1)
    assert [int(row["row_id"]) for row in listed(tmp_path)] == list(GOOD)
    for row in listed(tmp_path):
        row_id = int(row["row_id"])
        expected = blend(photo_of(row_id), mask_of(row_id), CLASSES.palette)
        with Image.open(tmp_path / row["file"]) as picture:
            assert np.abs(np.asarray(picture, np.int16) - expected).mean() < 16


def test_a_photo_of_another_size_is_not_the_one_that_was_segmented(tmp_path: Path) -> None:
    uri = publish(tmp_path)
    Image.fromarray(photo_of(0)[:-1]).save(tmp_path / "photos/0.png")
    found = run(uri, str(tmp_path / "out"), "list", None)
    assert (found.frames, found.unreadable) == (len(GOOD) - 1, 2)


def test_photos_are_read_by_the_policy_that_they_were_segmented_by(tmp_path: Path) -> None:
    uri = publish(tmp_path, policy=replace(POLICY, alpha=(10, 20, 30)))
    Image.new("RGBA", mask_of(0).shape[::-1]).save(tmp_path / "photos/0.png")
    run(uri, str(tmp_path / "out"), "list", "row_id = 0")
    with Image.open(tmp_path / "out/images/000000000.png") as picture:
        assert picture.getcolors() == [(mask_of(0).size, (10, 20, 30))]


@pytest.mark.parametrize("kind", KINDS)
def test_a_condition_chooses_rows_of_every_kind(uri: str, kind: Kind, tmp_path: Path) -> None:
    found = run(uri, str(tmp_path), kind, "frame IN (98, 96) OR row_id = 8")
    assert found.frames == 3
    order = (4, 2, 8) if kind.startswith("video") else (2, 4, 8)
    assert tuple(int(row["row_id"]) for row in listed(tmp_path)) == order


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_cut_off_is_repeated_to_the_same_bytes(
    uri: str, kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    run(uri, str(tmp_path / "whole"), kind, None)
    whole, export_portion = files_of(tmp_path / "whole"), driver._export_portion
    done = []

    def export_two(*arguments: Any, **settings: Any) -> Any:
        done.append(arguments)
        if len(done) == 2:
            raise KeyboardInterrupt
        return export_portion(*arguments, **settings)

    with monkeypatch.context() as cut_off:
        cut_off.setattr(driver, "_export_portion", export_two)
        with pytest.raises(KeyboardInterrupt):
            run(uri, str(folder), kind, None)
    assert "_SUCCESS.json" not in files_of(folder)
    run(uri, str(folder), kind, None)
    again = files_of(folder)
    ours = whole.keys() - {"prepare.yaml"}  # which names the folder
    assert {name: again[name] for name in ours} == {name: whole[name] for name in ours}
    assert again.keys() == whole.keys()
    assert not (folder / "_portions").exists()


def test_a_finished_export_is_left_as_it_is_and_never_mixed_with_another(uri: str, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    first = run(uri, str(folder), "index", None)
    corrected = folder / "000000002.png"
    corrected.write_bytes(b"by hand")
    assert run(uri, str(folder), "index", None) == first
    assert corrected.read_bytes() == b"by hand"
    for kind, where in (("palette", None), ("index", "row_id = 1")):
        with pytest.raises(
            ExistsError, match=r"holds the export of another table, kind or condition \(classes\.json\)"
        ):
            run(uri, str(folder), kind, where)


def test_a_condition_that_is_none_and_a_rate_that_is_none_are_refused(uri: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="query: "):
        run(uri, str(tmp_path / "out"), "index", "no such thing")
    with pytest.raises(
        ConfigError, match=r"--where: must hold for a frame, got 'row_id > 99', for which there is none"
    ):
        run(uri, str(tmp_path / "out"), "index", "row_id > 99")
    with pytest.raises(ConfigError, match=r"--fps: must be in 0\.\.1000, and not 0, got -1"):
        run(uri, str(tmp_path / "out"), "video", None, -1)
    assert not (tmp_path / "out").exists()


def test_only_predictions_are_exported(dataset_uri: str, tmp_path: Path) -> None:
    with pytest.raises(TableError, match="a table of dataset; export takes a table of predictions"):
        run(dataset_uri, str(tmp_path / "out"), "index", None)


def test_every_kind_has_a_format_and_a_line_in_the_document() -> None:
    assert tuple(driver._formats(25)) == KINDS
    document = (Path(__file__).parents[2] / "docs/exports.md").read_text()
    assert tuple(re.findall(r"^\| `(\w[\w-]*)` \|", document, re.M)) == KINDS
