"""Layouts of files, listed from a store as from a folder."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.unit.image_files import encode
from unet_ray import storage
from unet_ray.config import Config
from unet_ray.config_input import DataSection, ImagesSection
from unet_ray.datasets.layouts import labels_of, list_inputs
from unet_ray.datasets.listing import Row
from unet_ray.datasets.sniff import looks_like
from unet_ray.errors import DatasetError
from unet_ray.labels.scheme import make_class_map
from unet_ray.prepare import check_pairs


def volume(pages: int, value: int = 1) -> bytes:
    first, *rest = (Image.fromarray(np.full((4, 4), value * (page + 1), np.uint8)) for page in range(pages))
    return encode(first, "TIFF", save_all=True, append_images=rest)


INPUTS: Mapping[str, tuple[DataSection, Mapping[str, bytes]]] = {
    "folder": (
        DataSection(images="", masks="truth", mask_suffix="_L", unlabelled="skip", val_fraction=0),
        dict.fromkeys(("a/1.jpg", "a/2.jpg", "a/10.jpg", "truth/a/2_L.png", "truth/a/10_L.png"), b"x"),
    ),
    "one_folder": (
        DataSection(images=".", masks=".", image_suffix="_rgb", mask_suffix="_seg", val_fraction=0),
        dict.fromkeys(("15_rgb.png", "15_seg.png", "9_rgb.png", "9_seg.png"), b"x"),
    ),
    "pairs": (
        DataSection(layout="pairs", split="lists"),
        dict.fromkeys(
            [f"{above}{name}.jpg" for above in ("", "copy/") for name in ("train/1", "train/10", "train/2", "val/1")],
            b"x",
        ),
    ),
    "isbi": (
        DataSection(layout="isbi", split="lists"),
        dict.fromkeys(
            [*(f"train/{kind}/{number}.png" for kind in ("image", "label") for number in range(11)), "test/0.png"], b"x"
        ),
    ),
    "isbi_volumes": (
        DataSection(layout="isbi", split="lists", unlabelled="skip"),
        {"train-volume.tif": volume(11), "train-labels.tif": volume(11, 0), "test-volume.tif": volume(2)},
    ),
}


def put(root: str, files: Mapping[str, bytes]) -> None:
    for key, data in files.items():
        storage.write(f"{root}/{key}", data)


def list_under(data: DataSection, root: str) -> tuple[list[Row], dict[str, Any]]:
    """List an input; URIs are made relative, and entity tags, which differ, left out."""
    with list_inputs(Config(data=replace(data, root=root))) as listing:
        rows, found = list(listing.rows()), listing.summary()
    for row in rows:
        for what in ("image", "mask"):
            assert (row.pop(f"{what}_etag") is None) == (row[f"{what}_uri"] is None)
            row[f"{what}_uri"] = row[f"{what}_uri"] and row[f"{what}_uri"].removeprefix(root)
    names = [name for name in found if name.endswith("_examples")]
    return rows, found | {name: [uri.removeprefix(root) for uri in found[name]] for name in names}


@pytest.mark.parametrize("name", INPUTS)
def test_a_layout_in_a_store_gives_the_rows_of_its_folder(name: str, s3_bucket: str, tmp_path: Path) -> None:
    data, files = INPUTS[name]
    for root in (f"{s3_bucket}/a/{name}", f"{tmp_path}/{name}"):
        put(root, files)
    rows, found = list_under(data, f"{tmp_path}/{name}")
    assert rows
    assert list_under(data, f"{s3_bucket}/a/{name}") == (rows, found)


def test_pages_of_a_volume_in_a_store_are_decoded(s3_bucket: str) -> None:
    data, files = INPUTS["isbi_volumes"]
    put(s3_bucket, files)
    config = Config(data=replace(data, root=s3_bucket))
    with list_inputs(config) as listing:
        rows = [row | {"row_id": number} for number, row in enumerate(listing.rows())]
    classes = make_class_map(labels_of(config))
    checked = check_pairs(rows, classes=classes, policy=ImagesSection(), resize=None).to_pylist()
    assert [row["error_code"] for row in checked] == [None] * 11
    assert [row["channel_sum"] for row in checked] == [[16 * (page + 1)] * 3 for page in range(11)]


def test_a_wrong_layout_in_a_store_is_told_which_one_it_looks_like(s3_bucket: str) -> None:
    put(f"{s3_bucket}/set", INPUTS["isbi"][1])
    with pytest.raises(DatasetError, match=r"; it looks like data\.layout: isbi$"):
        list_under(DataSection(), f"{s3_bucket}/set")
    assert looks_like(s3_bucket) == "isbi"
    assert looks_like(f"{s3_bucket}-none") is None
