from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.unit.image_files import encode
from unet_ray import storage
from unet_ray.config import Config
from unet_ray.config_input import DataSection, ImagesSection
from unet_ray.datasets import frames
from unet_ray.datasets.layouts import labels_of, list_inputs
from unet_ray.datasets.listing import Row
from unet_ray.errors import DatasetError
from unet_ray.images.decode import decode_plain
from unet_ray.images.encode import decode_stored_mask
from unet_ray.labels.scheme import make_class_map
from unet_ray.prepare import check_pairs


def touch(root: Path, *keys: str) -> None:
    for key in keys:
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).write_bytes(b"x")


def isbi_of(root: Path, **data: Any) -> Config:
    return Config(data=DataSection(layout="isbi", root=str(root), **({"split": "lists"} | data)))


def list_slices(config: Config) -> list[Row]:
    with list_inputs(config) as listing:
        return list(listing.rows())


def prepare(config: Config, **policy: Any) -> list[dict[str, Any]]:
    rows = [row | {"row_id": number} for number, row in enumerate(list_slices(config))]
    classes = make_class_map(labels_of(config))
    return check_pairs(rows, classes=classes, policy=ImagesSection(**policy), resize=None).to_pylist()


def mask_of(row: dict[str, Any]) -> NDArray[np.uint8]:
    return decode_stored_mask(row["mask"], row["height"], row["width"], "png")


def page(number: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return a slice, grey with its number, and its labels: one cell, as many pixels wide as its number."""
    labels = np.zeros((8, 40), np.uint8)
    labels[:, :number] = 255
    return np.full((8, 40), number, np.uint8), labels


def write_volume(path: Path, pages: list[NDArray[np.uint8]], **options: Any) -> None:
    pictures = [Image.fromarray(pixels) for pixels in pages]
    path.write_bytes(encode(pictures[0], "TIFF", save_all=True, append_images=pictures[1:], **options))


def write_volumes(root: Path, num_pages: int = 12) -> None:
    images, labels = zip(*map(page, range(num_pages)), strict=True)
    write_volume(root / "train-volume.tif", list(images))
    write_volume(root / "train-labels.tif", list(labels))
    write_volume(root / "test-volume.tif", list(images[:3]), big_tiff=True)


@pytest.mark.parametrize(
    ("image", "label", "test"),
    [("image", "label", "test/image"), ("images", "labels", "test/images"), ("imgs", "masks", "test")],
)
def test_slices_are_listed_in_order_by_stack(tmp_path: Path, image: str, label: str, test: str) -> None:
    touch(tmp_path, *(f"train/{folder}/{number}.png" for folder in (image, label) for number in range(12)))
    touch(tmp_path, *(f"{test}/{number}.png" for number in range(11)), "train/readme.txt")
    rows = list_slices(isbi_of(tmp_path))
    assert [(row["image_id"], row["split"], row["group"], row["frame"]) for row in rows] == [
        *((f"train/{image}/{number}.png", "train", "train", number) for number in range(12)),
        *((f"{test}/{number}.png", "test", "test", number) for number in range(11)),
    ]
    assert [row["mask_uri"] for row in rows] == [
        *(f"{tmp_path}/train/{label}/{number}.png" for number in range(12)),
        *[None] * 11,
    ]
    assert len(list_slices(isbi_of(tmp_path, unlabelled="skip"))) == 12


def test_pages_of_volumes_are_rows_with_both_files_and_the_page(tmp_path: Path) -> None:
    write_volumes(tmp_path)
    rows = list_slices(isbi_of(tmp_path))
    assert [row["image_id"] for row in rows] == [
        *(f"train-volume.tif#{number}" for number in range(12)),
        *(f"test-volume.tif#{number}" for number in range(3)),
    ]
    facts = {item.uri: (item.etag, item.size_bytes) for item in storage.list_objects(str(tmp_path))}
    for number, row in enumerate(rows):
        stack = "train" if number < 12 else "test"
        assert row["frame_index"] == row["frame"] == number % 12
        assert row["group"] == row["split"] == stack
        assert row["image_uri"] == f"{tmp_path}/{stack}-volume.tif"
        assert (row["image_etag"], row["image_bytes"]) == facts[row["image_uri"]]
        mask = f"{tmp_path}/train-labels.tif" if stack == "train" else None
        assert (row["mask_uri"], row["mask_etag"], row["mask_bytes"]) == (
            mask,
            *(facts[mask] if mask else (None, None)),
        )


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate"])
def test_each_page_is_decoded_with_the_labels_of_the_same_page(tmp_path: Path, compression: str | None) -> None:
    images, labels = zip(*map(page, range(12)), strict=True)
    write_volume(tmp_path / "train-volume.tif", list(images), compression=compression)
    write_volume(tmp_path / "train-labels.tif", list(labels), compression=compression, big_tiff=True)
    for number, row in enumerate(prepare(isbi_of(tmp_path))):
        assert row["status"] == "ok"
        assert np.array_equal(decode_plain(row["image"])[:, :, 1], images[number])
        assert np.array_equal(mask_of(row), labels[number] // 255)


def test_a_volume_is_read_once_for_all_its_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_volumes(tmp_path)
    frames._read_volume.cache_clear()
    reads: list[str] = []
    read_bytes = storage.read_bytes

    def count(uri: str, *, etag: str | None = None) -> bytes:
        reads.append(storage.name(uri))
        return read_bytes(uri, etag=etag)

    monkeypatch.setattr(storage, "read_bytes", count)
    assert {row["status"] for row in prepare(isbi_of(tmp_path, unlabelled="skip"))} == {"ok"}
    assert sorted(reads) == ["train-labels.tif", "train-volume.tif"]
    write_volumes(tmp_path, 13)
    assert len(prepare(isbi_of(tmp_path, unlabelled="skip"))) == 13
    assert len(reads) == 4


def test_a_volume_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    write_volumes(tmp_path)
    assert {row["error_code"] for row in prepare(isbi_of(tmp_path), max_bytes=100)} == {"too_large"}


def test_a_volume_that_lost_pages_after_it_was_listed_is_refused(tmp_path: Path) -> None:
    write_volumes(tmp_path)
    rows = list_slices(isbi_of(tmp_path))
    write_volumes(tmp_path, 4)
    classes = make_class_map(labels_of(isbi_of(tmp_path)))
    changed = check_pairs(rows[:12], classes=classes, policy=ImagesSection(), resize=None).to_pylist()
    assert {row["error_code"] for row in changed} == {"changed_image"}
    without = [row | {"image_etag": None, "mask_etag": None} for row in rows[:12]]
    found = check_pairs(without, classes=classes, policy=ImagesSection(), resize=None).to_pylist()
    assert [row["error_code"] for row in found] == [None] * 4 + ["missing_page"] * 8


def test_volumes_of_different_lengths_are_refused(tmp_path: Path) -> None:
    write_volumes(tmp_path)
    write_volume(tmp_path / "train-labels.tif", [page(0)[1]] * 11)
    with pytest.raises(
        DatasetError, match=r"train-volume\.tif has 12 pages and .*train-labels\.tif has 11; the mask of"
    ):
        list_slices(isbi_of(tmp_path))


@pytest.mark.parametrize(
    ("content", "why"), [(b"P5 no TIFF", "not a TIFF file"), (b"II*\0\xff\0\0\0", "the TIFF ends")]
)
def test_a_volume_that_is_none_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    write_volumes(tmp_path)
    (tmp_path / "train-labels.tif").write_bytes(content)
    with pytest.raises(DatasetError, match=rf"train-labels\.tif: {why}.*; save the volume again as a multi-page TIFF"):
        list_slices(isbi_of(tmp_path))


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        ((), "no images"),
        (("train/image/0.png",), "train/image/"),
        (("train/label/0.png", "test/0.png"), "test/, train/label/"),
        (("train-volume.tif",), "./"),
    ],
)
def test_a_folder_that_is_not_isbi_says_what_was_found(tmp_path: Path, keys: tuple[str, ...], found: str) -> None:
    touch(tmp_path, *keys)
    with pytest.raises(
        DatasetError, match=rf"needs train/image/ and train/label/, or .*train-labels\.tif; found {found}"
    ):
        list_slices(isbi_of(tmp_path))


def test_a_root_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"none: no such folder; check data\.root"):
        list_slices(isbi_of(tmp_path / "none"))


def test_all_real_slices_are_pairs_of_membrane_and_cell(data_root: Path) -> None:
    config = isbi_of(data_root / "isbi2012", unlabelled="skip")
    rows = prepare(config)
    assert make_class_map(labels_of(config)).classes == ("membrane", "cell")
    assert [(row["frame"], row["status"]) for row in rows] == [(number, "ok") for number in range(30)]
    assert all(min(row["class_pixels"]) > 0 and row["ignored_pixels"] == 0 for row in rows)
    cell = sum(row["class_pixels"][1] for row in rows) / (30 * 512 * 512)
    assert 0.77 < cell < 0.80
    source = data_root / "isbi2012/train/label/7.png"
    assert np.array_equal(mask_of(rows[7]) * 255, np.asarray(Image.open(source)))
