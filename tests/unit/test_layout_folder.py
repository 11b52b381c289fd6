from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from tests.unit.image_files import encode, gradient
from unet_ray.config import Config
from unet_ray.config_input import DataSection, ImagesSection, LabelsSection
from unet_ray.datasets.layouts import labels_of, list_inputs
from unet_ray.datasets.listing import Row
from unet_ray.errors import DatasetError
from unet_ray.images.encode import decode_stored_mask
from unet_ray.labels.scheme import make_class_map
from unet_ray.prepare import check_pairs

LABELS = LabelsSection(classes=tuple(f"class {number}" for number in range(20)))


class Style(NamedTuple):
    """Settings, images and their masks in plan order (None: no mask), and the group and number of each."""

    data: Mapping[str, Any]
    pairs: Mapping[str, str | None]
    names: list[tuple[str, int | None]]


STYLES = {
    "prefix_and_number": Style(
        {"images": "train", "masks": "trainannot"},
        {
            "train/0001TP_006690.png": "trainannot/0001TP_006690.png",
            "train/0001TP_006720.png": "trainannot/0001TP_006720.png",
            "train/Seq05VD_f00030.png": "trainannot/Seq05VD_f00030.png",
        },
        [("0001TP", 6690), ("0001TP", 6720), ("Seq05VD", 30)],
    ),
    "sequence_folders": Style(
        {"images": "JPEGImages/480p", "masks": "Annotations/480p"},
        {
            "JPEGImages/480p/bear/00000.jpg": "Annotations/480p/bear/00000.png",
            "JPEGImages/480p/bear/00001.jpg": "Annotations/480p/bear/00001.png",
            "JPEGImages/480p/blackswan/00000.jpg": "Annotations/480p/blackswan/00000.png",
        },
        [("bear", 0), ("bear", 1), ("blackswan", 0)],
    ),
    "deep_folders_and_long_numbers": Style(
        {"images": "raw", "masks": "truth"},
        {
            "raw/drive_2/image_02/data/0000000009.png": "truth/drive_2/image_02/data/0000000009.png",
            "raw/drive_10/image_02/data/0000000008.png": "truth/drive_10/image_02/data/0000000008.png",
        },
        [("drive_2/image_02/data", 9), ("drive_10/image_02/data", 8)],
    ),
    "unpadded": Style(
        {"images": "CameraRGB", "masks": "CameraSeg"},
        {f"CameraRGB/{number}.png": f"CameraSeg/{number}.png" for number in (0, 1, 2, 9, 10, 11, 100)},
        [("", number) for number in (0, 1, 2, 9, 10, 11, 100)],
    ),
    "ffmpeg": Style(
        {},
        {f"images/frame_{number:05}.jpg": f"masks/frame_{number:05}.png" for number in (1, 2, 10)},
        [("frame", 1), ("frame", 2), ("frame", 10)],
    ),
    "timestamps_in_one_folder": Style(
        {"images": "hiit", "masks": "hiit", "image_suffix": "_rgb", "mask_suffix": "_seg"},
        {f"hiit/{stamp}_rgb.png": f"hiit/{stamp}_seg.png" for stamp in (1526141750522, 1526141750555)},
        [("", 1526141750522), ("", 1526141750555)],
    ),
    "timestamps_in_the_root": Style(
        {"images": ".", "masks": "", "image_suffix": "_rgb", "mask_suffix": "_seg"},
        {"1526141750522_rgb.jpg": "1526141750522_seg.png"},
        [("", 1526141750522)],
    ),
    "other_suffixes_in_parallel_folders": Style(
        {"images": "rgb", "masks": "gt", "image_suffix": "_leftImg8bit", "mask_suffix": "_gtFine_labelIds"},
        {
            "rgb/aachen/aachen_000000_000019_leftImg8bit.png": "gt/aachen/aachen_000000_000019_gtFine_labelIds.png",
            "rgb/aachen/aachen_000001_000019_leftImg8bit.png": "gt/aachen/aachen_000001_000019_gtFine_labelIds.png",
        },
        [("aachen", 19), ("aachen", 19)],
    ),
    "a_suffix_of_the_masks_only": Style(
        {"masks": "labels", "mask_suffix": "_L"},
        {
            "images/0006R0_f00930.png": "labels/0006R0_f00930_L.png",
            "images/0016E5_00390.png": "labels/0016E5_00390_L.png",
        },
        [("0006R0", 930), ("0016E5", 390)],
    ),
    "images_at_the_root_masks_below": Style(
        {"images": "", "masks": "masks"},
        {"a_1.jpg": "masks/a_1.png", "a_2.jpg": "masks/a_2.png"},
        [("a", 1), ("a", 2)],
    ),
    "gaps_and_uneven_steps": Style(
        {},
        {f"images/a_{number:06}.png": f"masks/a_{number:06}.png" for number in (2370, 2400, 4350, 7959, 7961)},
        [("a", number) for number in (2370, 2400, 4350, 7959, 7961)],
    ),
    "sparse_masks": Style(
        {},
        {f"images/v/{n:03}.jpg": f"masks/v/{n:03}.png" if n % 30 == 1 else None for n in range(1, 62)},
        [("v", number) for number in range(1, 62)],
    ),
}  # fmt: skip


def write_style(root: Path, style: Style) -> Config:
    """Write small pairs, each mask of one class, the place of its pair; return their configuration."""
    files: dict[str, bytes] = {}
    for number, (image, mask) in enumerate(style.pairs.items()):
        files[image] = encode(gradient(8, 8), "JPEG" if image.endswith("jpg") else "PNG")
        if mask is not None:
            files[mask] = encode(np.full((8, 8), number % 20, np.uint8), "PNG")
    for key, data in files.items():
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).write_bytes(data)
    return Config(data=DataSection(root=str(root), val_fraction=0, **style.data), labels=LABELS)


def listed(config: Config) -> tuple[list[Row], dict[str, Any]]:
    with list_inputs(config) as listing:
        return list(listing.rows()), listing.summary()


@pytest.mark.parametrize("name", STYLES)
def test_every_way_to_dump_frames_is_read(tmp_path: Path, name: str) -> None:
    style = STYLES[name]
    config = write_style(tmp_path, style)
    rows, found = listed(config)
    assert [row["image_id"] for row in rows] == list(style.pairs)
    assert [row["mask_uri"] for row in rows] == [mask and f"{tmp_path}/{mask}" for mask in style.pairs.values()]
    assert [(row["group"], row["frame"]) for row in rows] == style.names
    assert (found["skipped_objects"], found["unpaired_masks"], found["repeated_images"]) == (0, 0, 0)
    planned = [row | {"row_id": number} for number, row in enumerate(rows)]
    checked = check_pairs(
        planned, classes=make_class_map(labels_of(config)), policy=ImagesSection(), resize=None
    ).to_pylist()
    for number, (row, mask) in enumerate(zip(checked, style.pairs.values(), strict=True)):
        assert row["error_code"] == (None if mask else "missing_mask")
        if mask:
            assert (decode_stored_mask(row["mask"], 8, 8, "png") == number % 20).all()


def test_frames_without_a_mask_can_be_left_out_and_are_counted(tmp_path: Path) -> None:
    style = STYLES["sparse_masks"]
    config = write_style(tmp_path, style._replace(data={"unlabelled": "skip"}))
    rows, found = listed(config)
    assert [row["frame"] for row in rows] == [1, 31, 61]
    assert (found["images"], found["images_without_mask"]) == (3, 58)
    assert found["without_mask_examples"] == [f"{tmp_path}/images/v/{number:03}.jpg" for number in range(2, 7)]


def test_leaving_out_all_frames_is_refused(tmp_path: Path) -> None:
    config = write_style(tmp_path, Style({"masks": None, "unlabelled": "skip"}, {"images/a.png": None}, []))
    with pytest.raises(DatasetError, match=r"0 of 1 images have a mask, .*/a\.png has none.*data\.unlabelled: skip"):
        listed(config)


def test_frames_to_segment_may_share_their_name(tmp_path: Path) -> None:
    config = write_style(tmp_path, Style({"masks": None}, {"images/a.jpg": None, "images/a.png": None}, []))
    assert [row["image_id"] for row in listed(config)[0]] == ["images/a.jpg", "images/a.png"]
