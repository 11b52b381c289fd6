"""Photos with masks for VOC, CVAT and hand: read as those tools read them, corrected, and prepared again."""

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from torchvision.datasets import VOCSegmentation

from tests.unit.export_table import CLASSES, GOOD, listed, mask_of, photo_of, publish
from tests.unit.layout_files import check
from unet_ray.config_file import load_config
from unet_ray.errors import ConfigError
from unet_ray.export import Kind
from unet_ray.export.colours import distinct_palette, voc_colours
from unet_ray.export.run import run
from unet_ray.images.encode import decode_stored_mask
from unet_ray.labels.presets import PRESETS

pytestmark = pytest.mark.usefixtures("inline_tasks")

PALETTE = np.array(distinct_palette(CLASSES), np.uint8)


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return publish(tmp_path_factory.mktemp("predictions"))


def colours_of(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def read_labelmap(text: str) -> dict[str, tuple[int, ...]]:
    """Read a label map as CVAT does: a line for each label, its colour behind the first colon."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    assert all(line.split(":")[2:] == ["", ""] for line in lines)
    return {line.split(":")[0]: tuple(map(int, line.split(":")[1].split(","))) for line in lines}


def prepared(folder: Path, **flags: str) -> dict[int, NDArray[np.uint8]]:
    """Prepare what came back, by the configuration of the export; return the masks by row_id."""
    rows = check(load_config(str(folder / "prepare.yaml"), flags))
    masks = {}
    for row in rows:
        assert row["status"] == "ok", row["error_message"]
        masks[int(Path(row["image_id"]).stem)] = decode_stored_mask(row["mask"], row["height"], row["width"], "png")
    return masks


def test_colours_of_the_table_are_told_apart_and_black_is_no_class() -> None:
    assert distinct_palette(CLASSES) == ((128, 64, 128), (128, 0, 0), (1, 2, 3), (0, 128, 0))
    assert distinct_palette(replace(CLASSES, background=1))[1] == (0, 0, 0)
    assert len(np.unique(voc_colours(), axis=0)) == 256
    for label in PRESETS["voc"].labels:
        assert tuple(voc_colours()[label.value]) == label.colour


def test_a_voc_export_is_what_torchvision_reads(uri: str, tmp_path: Path) -> None:
    run(uri, str(tmp_path / "VOCdevkit/VOC2012"), "voc", None)
    rows = [row_id for row_id in GOOD if row_id < 6]
    voc = VOCSegmentation(str(tmp_path), "2012", "val")
    assert len(voc) == len(rows)
    for row_id, (photo, mask) in zip(rows, voc, strict=True):
        np.testing.assert_array_equal(np.asarray(mask), mask_of(row_id))
        np.testing.assert_array_equal(np.asarray(mask.convert("RGB")), PALETTE[mask_of(row_id)])
        assert np.abs(np.asarray(photo, np.int16) - photo_of(row_id)).mean() < 6
    lists = tmp_path / "VOCdevkit/VOC2012/ImageSets/Segmentation"
    assert (lists / "default.txt").read_text().split() == [f"{row_id:09d}" for row_id in GOOD if row_id >= 6]
    assert not (lists / "train.txt").exists()
    stored = tmp_path / "VOCdevkit/VOC2012/JPEGImages/000000001.jpg"
    assert stored.read_bytes() == (Path(uri).parent / "photos/1.jpg").read_bytes()


def test_a_cvat_archive_names_classes_by_colour_and_objects_by_vocs_colours(uri: str, tmp_path: Path) -> None:
    run(uri, str(tmp_path), "cvat", None)
    labels = {one["name"]: one["color"] for one in json.loads((tmp_path / "labels.json").read_text())}
    seen = []
    for shard in (0, 1, 2):
        with zipfile.ZipFile(tmp_path / f"photos-{shard:06d}.zip") as photos:
            photo_names = photos.namelist()
        with zipfile.ZipFile(tmp_path / f"masks-{shard:06d}.zip") as archive:
            names = archive.read("ImageSets/Segmentation/default.txt").decode().split()
            assert [Path(name).stem for name in photo_names] == names
            colours = read_labelmap(archive.read("labelmap.txt").decode())
            assert {name: "#{:02x}{:02x}{:02x}".format(*colours[name]) for name in labels} == labels
            class_of = {colour: name for name, colour in colours.items()}
            for name in names:
                classes = colours_of(archive.read(f"SegmentationClass/{name}.png"))
                objects = colours_of(archive.read(f"SegmentationObject/{name}.png"))
                mask = mask_of(int(name))
                assert len(np.unique(objects.reshape(-1, 3), axis=0)) == len(np.unique(mask))
                for class_id in np.unique(mask):
                    (colour,) = np.unique(classes[mask == class_id], axis=0)
                    assert class_of[tuple(colour)] == CLASSES.classes[class_id]
                    (colour,) = np.unique(objects[mask == class_id], axis=0)
                    assert tuple(colour) == tuple(voc_colours()[class_id + 1])  # 0 is no object
            seen += names
    assert list(map(int, seen)) == list(GOOD)
    assert not (tmp_path / "images").exists()


@pytest.mark.parametrize("kind", ["list", "voc", "cvat"])
def test_corrected_masks_come_back_as_a_dataset(uri: str, kind: Kind, tmp_path: Path) -> None:
    run(uri, str(tmp_path), kind, None)
    for archive in tmp_path.glob("*.zip"):
        with zipfile.ZipFile(archive) as files:
            files.extractall(tmp_path)
    expected = {row_id: mask_of(row_id).copy() for row_id in GOOD}
    rows = listed(tmp_path, "list.csv")
    assert [(row["split"], row["group"], row["frame"]) for row in rows[-4:-2]] == [("val", "drive", "96"), ("", "", "")]
    by_hand, by_tool, by_eraser = (tmp_path / row["mask"] for row in rows[:3])

    with Image.open(by_hand) as picture:  # a paint program, which keeps the palette
        picture.paste(2, (0, 0, 5, 7))
        picture.save(by_hand)
    expected[0][:7, :5] = 2

    with Image.open(by_tool) as picture:  # CVAT, which saves colours
        colours = picture.convert("RGB")
    colours.paste(tuple(PALETTE[3].tolist()), (2, 2, 9, 4))
    colours.save(by_tool)
    expected[1][2:4, 2:9] = 3

    cv2.imwrite(str(by_eraser), np.where(mask_of(2)[..., None] == 0, 0, PALETTE[mask_of(2)][..., ::-1]))
    expected[2][mask_of(2) == 0] = 255

    masks = prepared(tmp_path)
    assert masks.keys() == expected.keys()
    for row_id, mask in expected.items():
        np.testing.assert_array_equal(mask, masks[row_id])


def test_photos_come_back_with_the_pixels_that_were_segmented(uri: str, tmp_path: Path) -> None:
    run(uri, str(tmp_path), "list", None)
    for row in listed(tmp_path, "list.csv"):
        row_id = int(Path(row["image"]).stem)
        original = Path(uri).parent / "photos" / Path(row["image"].replace(f"{row_id:09d}", str(row_id))).name
        assert (tmp_path / row["image"]).read_bytes() == original.read_bytes()


def test_a_mask_that_was_deleted_is_a_row_with_a_reason(uri: str, tmp_path: Path) -> None:
    run(uri, str(tmp_path), "list", "row_id IN (0, 2)")
    (tmp_path / "masks/000000000.png").unlink()
    rows = check(load_config(str(tmp_path / "prepare.yaml"), {}))
    assert [(row["status"], row["error_code"]) for row in rows] == [("quarantined", "missing_mask"), ("ok", None)]


def test_a_black_background_comes_back_where_somebody_erased(tmp_path: Path) -> None:
    uri = publish(tmp_path, replace(CLASSES, background=1))
    folder = tmp_path / "out"
    run(uri, str(folder), "list", "row_id = 0")
    cv2.imwrite(str(folder / "masks/000000000.png"), np.zeros((*mask_of(0).shape, 3), np.uint8))
    assert (prepared(folder, **{"data.val_fraction": "0"})[0] == 1).all()


@pytest.mark.parametrize("kind", ["voc", "cvat"])
@pytest.mark.parametrize("name", ["lane: left", "#1", " road"])
def test_names_that_a_label_map_cannot_hold_are_refused(name: str, kind: Kind, tmp_path: Path) -> None:
    uri = publish(tmp_path, replace(CLASSES, classes=(name, *CLASSES.classes[1:])))
    with pytest.raises(ConfigError, match=f"labelmap.txt cannot hold the class '{name}'"):
        run(uri, str(tmp_path / "out"), kind, None)
    assert run(uri, str(tmp_path / "out"), "list", "row_id = 0").frames == 1
