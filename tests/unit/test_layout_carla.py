from pathlib import Path
from typing import Any

import pytest

from tests.unit.layout_files import CARLA_IDS, PHOTO, carla_mask, check, draw_carla, mask_of, put, rows_of
from unet_ray.config import Config
from unet_ray.config_input import DataSection, LabelsSection
from unet_ray.datasets.layouts import list_inputs
from unet_ray.errors import DatasetError


def config_of(root: Path | str, labels: LabelsSection | None = None, **data: Any) -> Config:
    section = DataSection(layout="carla", root=f"{root}/", **{"val_fraction": 0, **data})
    return Config(data=section, labels=labels or LabelsSection())


def test_every_part_is_listed_in_natural_order_with_its_sequences(tmp_path: Path) -> None:
    draw_carla(str(tmp_path))
    with list_inputs(config_of(tmp_path)) as listing:
        rows, found = list(listing.rows()), listing.summary()
    assert [(row["image_id"], row["group"], row["frame"]) for row in rows] == [
        ("dataA/dataA/CameraRGB/02_00_009.png", "02_00", 9),
        ("dataA/dataA/CameraRGB/02_00_010.png", "02_00", 10),
        ("dataA/dataA/CameraRGB/F61-2.png", "F61", 2),
        ("dataA/dataA/CameraRGB/F61-10.png", "F61", 10),
        ("dataB/dataB/CameraRGB/9.png", "dataB/dataB", 9),
        ("dataB/dataB/CameraRGB/10.png", "dataB/dataB", 10),
    ]
    assert rows[3]["mask_uri"] == f"{tmp_path}/dataA/dataA/CameraSeg/F61-10.png"
    assert found["skipped_examples"] == [f"{tmp_path}/hood.npy"]


def test_ids_are_read_from_the_red_channel(tmp_path: Path) -> None:
    draw_carla(str(tmp_path))
    assert [mask_of(row) for row in check(config_of(tmp_path))] == [CARLA_IDS] * 6


def test_the_hood_of_the_own_car_can_be_ignored(tmp_path: Path) -> None:
    draw_carla(str(tmp_path))
    rows = check(config_of(tmp_path, LabelsSection(hood=("Vehicles", 1))))
    assert mask_of(rows[0]) == [[0, 7, 10, 10], [7, 12, 255, 1]]


def test_the_copy_of_the_course_has_23_classes_in_any_channel(tmp_path: Path) -> None:
    for number, channel in (("000026", 0), ("000028", 2)):
        put(f"{tmp_path}/data", {
            f"CameraRGB/{number}.png": PHOTO, f"CameraMask/{number}.png": carla_mask([[22, 0, 13, 7]] * 2, channel),
        })  # fmt: skip
    labels = LabelsSection(classes=tuple(f"class_{number}" for number in range(23)), channel="max")
    rows = check(config_of(f"{tmp_path}/data", labels))
    assert [(row["image_id"], row["group"], row["frame"]) for row in rows] == [
        ("CameraRGB/000026.png", "", 26), ("CameraRGB/000028.png", "", 28),
    ]  # fmt: skip
    assert [mask_of(row) for row in rows] == [[[22, 0, 13, 7]] * 2] * 2


def test_folders_called_after_a_split_are_one(tmp_path: Path) -> None:
    for part in ("Train", "Val"):
        put(f"{tmp_path}/{part}", {"CameraRGB/a_1.png": PHOTO, "CameraSeg/a_1.png": carla_mask(CARLA_IDS)})
    rows = rows_of(config_of(tmp_path, split="lists"))
    assert [(row["image_id"], row["split"]) for row in rows] == [
        ("Train/CameraRGB/a_1.png", "train"), ("Val/CameraRGB/a_1.png", "val"),
    ]  # fmt: skip


def test_other_parts_have_no_split_of_their_own(tmp_path: Path) -> None:
    draw_carla(str(tmp_path))
    with pytest.raises(DatasetError, match=r"data\.split: lists needs train, val or test for every image"):
        rows_of(config_of(tmp_path, split="lists"))


def test_a_bad_id_and_a_missing_mask_are_quarantined(tmp_path: Path) -> None:
    put(str(tmp_path), {f"CameraRGB/{name}.png": PHOTO for name in ("1", "2", "3")})
    put(str(tmp_path), {f"CameraSeg/{value}.png": carla_mask([[value * 10 + 3] * 4] * 2) for value in (0, 1, 2)})
    one, two, three = check(config_of(tmp_path))
    assert (one["error_code"], two["error_code"]) == ("class_id_out_of_range", "class_id_out_of_range")
    assert one["error_message"].endswith("values 13 (8 px); known are 0..12 (labels.values, labels.ignore_ids)")
    assert three["error_code"] == "missing_mask"


@pytest.mark.parametrize("masks", ["masks", None])
def test_photos_alone_are_listed_without_masks(tmp_path: Path, masks: str | None) -> None:
    put(str(tmp_path), {"a/CameraRGB/1.png": PHOTO})
    [row] = rows_of(config_of(tmp_path, masks=masks))
    assert row["mask_uri"] is None


def test_masks_none_of_which_is_of_a_photo_are_refused(tmp_path: Path) -> None:
    put(str(tmp_path), {"a/CameraRGB/1.png": PHOTO, "a/CameraSeg/01.png": PHOTO, "b/CameraSeg/1.png": PHOTO})
    with pytest.raises(DatasetError, match=r"0 of 1 images in CameraRGB/ have one of the 2 masks in CameraSeg or Came"):
        rows_of(config_of(tmp_path))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ([], "root: no such folder; check data.root"),
        (["a/CameraSeg/1.png"], "needs images in CameraRGB/ with CameraSeg or CameraMask beside it; found a/; check"),
        (["a/CameraRGB/notes.txt"], "found a/; check data.root"),
        (["leftImg8bit/train/a.png"], "found leftImg8bit/; check data.root"),
    ],
)
def test_a_root_that_is_not_carla_is_told(tmp_path: Path, keys: list[str], message: str) -> None:
    root = f"{tmp_path}/root"
    put(root, dict.fromkeys(keys, b"x"))
    with pytest.raises(DatasetError, match=message):
        rows_of(config_of(root))
