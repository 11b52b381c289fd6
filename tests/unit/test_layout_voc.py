from pathlib import Path
from typing import Any

import pytest

from tests.unit.layout_files import JPEG, VOC_IDS, check, draw_voc, mask_of, put, rows_of
from unet_ray.config import Config
from unet_ray.config_input import DataSection
from unet_ray.errors import DatasetError

AUG = "SegmentationClassAug"


def config_of(root: Path | str, **data: Any) -> Config:
    return Config(data=DataSection(layout="voc", root=f"{root}/", **{"split": "lists", **data}))


@pytest.mark.parametrize("kit", ["", "VOC2012/", "VOCdevkit/VOC2012/"])
def test_lists_say_which_photos_there_are_wherever_the_kit_lies(tmp_path: Path, kit: str) -> None:
    draw_voc(f"{tmp_path}/{kit}".rstrip("/"))
    rows = rows_of(config_of(tmp_path))
    assert [(row["image_id"], row["split"], row["group"], row["frame"]) for row in rows] == [
        (f"{kit}JPEGImages/2007_000039.jpg", "train", "", None),
        (f"{kit}JPEGImages/2007_000032.jpg", "train", "", None),
        (f"{kit}JPEGImages/2007_000033.jpg", "val", "", None),
    ]
    assert rows[0]["image_uri"] == f"{tmp_path}/{kit}JPEGImages/2007_000039.jpg"
    assert rows[0]["mask_uri"] == f"{tmp_path}/{kit}SegmentationClass/2007_000039.png"


def test_palettes_are_read_as_ids_and_the_border_is_ignored(tmp_path: Path) -> None:
    draw_voc(str(tmp_path))
    assert [mask_of(row) for row in check(config_of(tmp_path))] == [VOC_IDS] * 3


def test_the_augmented_masks_have_lists_of_their_own(tmp_path: Path) -> None:
    draw_voc(str(tmp_path))
    rows = check(config_of(tmp_path, masks=AUG))
    assert [(row["image_id"], row["split"]) for row in rows] == [
        ("JPEGImages/2007_000032.jpg", "train"),
        ("JPEGImages/2007_000039.jpg", "train"),
        ("JPEGImages/2008_000002.jpg", "train"),
        ("JPEGImages/2007_000033.jpg", "val"),
    ]
    assert [mask_of(row) for row in rows] == [VOC_IDS] * 4


def test_the_splits_of_the_lists_can_be_left(tmp_path: Path) -> None:
    draw_voc(str(tmp_path))
    assert {row["split"] for row in rows_of(config_of(tmp_path, split="hash", val_fraction=0))} == {"train"}


def test_without_lists_the_photos_that_have_a_mask_are_taken(tmp_path: Path) -> None:
    draw_voc(str(tmp_path), lists=False)
    rows = rows_of(config_of(tmp_path, split="hash", val_fraction=0))
    assert [(row["image_id"], row["group"], row["frame"]) for row in rows] == [
        (f"JPEGImages/2007_0000{number}.jpg", "", None) for number in (32, 33, 39)
    ]


def test_without_lists_there_are_no_splits(tmp_path: Path) -> None:
    draw_voc(str(tmp_path), lists=False)
    with pytest.raises(DatasetError, match=r"data\.split: lists needs train, val or test for every image, .* has 'non"):
        rows_of(config_of(tmp_path))


def test_photos_without_truth_are_listed_with_masks_null(tmp_path: Path) -> None:
    put(str(tmp_path), {f"JPEGImages/{name}.jpg": JPEG for name in "ab"})
    rows = rows_of(config_of(tmp_path, masks=None, split="hash", val_fraction=0))
    assert [row["mask_uri"] for row in rows] == [None, None]


def test_listed_files_that_are_not_there_are_quarantined(tmp_path: Path) -> None:
    draw_voc(str(tmp_path))
    put(str(tmp_path), {"ImageSets/Segmentation/val.txt": b"2007_000033\n2008_000002\n2009_000001\n"})
    *_, good, unmasked, gone = check(config_of(tmp_path))
    assert (good["status"], unmasked["error_code"], gone["error_code"]) == ("ok", "missing_mask", "missing_image")


@pytest.mark.parametrize("image_id", ["../2007_000032", "a/b", "..", "2007_000032 1", "a\tb", "a\0"])
def test_an_entry_that_is_no_id_is_refused(tmp_path: Path, image_id: str) -> None:
    draw_voc(str(tmp_path))
    put(str(tmp_path), {"ImageSets/Segmentation/val.txt": f"2007_000033\n\n{image_id}\n".encode()})
    with pytest.raises(DatasetError) as caught:
        rows_of(config_of(tmp_path))
    found = f"val.txt: line 3: needs the id of a photo, such as 2007_000032, got {image_id!r}"
    assert str(caught.value) == f"{tmp_path}/ImageSets/Segmentation/{found}"


def test_a_photo_in_two_splits_is_refused(tmp_path: Path) -> None:
    draw_voc(str(tmp_path))
    put(str(tmp_path), {"ImageSets/Segmentation/val.txt": b"2007_000032\n"})
    with pytest.raises(
        DatasetError, match=r"\{train,val\}\.txt: row 3: JPEGImages/2007_000032\.jpg is also in row 2, with another"
    ):
        rows_of(config_of(tmp_path))


def test_masks_that_are_not_there_are_told_before_all_is_quarantined(tmp_path: Path) -> None:
    draw_voc(str(tmp_path))
    with pytest.raises(DatasetError, match=r"/Masks: no masks there; data\.masks takes SegmentationClass, Segment"):
        rows_of(config_of(tmp_path, masks="Masks"))


def test_several_kits_are_told_apart_by_the_user(tmp_path: Path) -> None:
    draw_voc(f"{tmp_path}/VOC2012")
    draw_voc(f"{tmp_path}/VOC2007")
    with pytest.raises(DatasetError, match=r"holds several kits, VOC2007/, VOC2012/; point data\.root at one of them"):
        rows_of(config_of(tmp_path))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ([], "no such folder; check data.root"),
        (["train/a.png", "trainannot/a.png"], "found train/, trainannot/; check data.root"),
    ],
)
def test_a_root_that_is_not_voc_is_told(tmp_path: Path, keys: list[str], message: str) -> None:
    root = f"{tmp_path}/root"
    put(root, dict.fromkeys(keys, b"x"))
    with pytest.raises(DatasetError, match=message):
        rows_of(config_of(root))
