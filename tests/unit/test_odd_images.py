"""The whole set of odd and broken files decodes, or is refused with a code."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from unet_ray.config_input import ImagesSection
from unet_ray.errors import ImageError
from unet_ray.images.decode import decode_image, decode_mask, decode_plain

POLICY = ImagesSection(max_pixels=10**6, max_bytes=10**6)
WRONG_SUM = ("pngsuite/png/xcsn0g01.png",)  # which Pillow does not look at


@pytest.fixture(scope="module")
def files(data_root: Path) -> list[dict[str, str]]:
    """Give the rows of the manifest, each with its path."""
    root = data_root / "odd_images"
    rows = list(csv.DictReader((root / "manifest.csv").open(encoding="utf-8")))
    assert len(rows) == 190
    return [row | {"path": str(root / row["file"])} for row in rows]


def image_or_code(file: dict[str, str], policy: ImagesSection) -> tuple[NDArray[np.uint8], bool] | str:
    try:
        return decode_image(Path(file["path"]).read_bytes(), policy)
    except ImageError as error:
        return error.code


def test_every_odd_file_that_pillow_reads_is_read_and_no_other(files: list[dict[str, str]]) -> None:
    codes = set()
    for file in files:
        found = image_or_code(file, POLICY)
        sound = file["pil_result"] == "ok" and file["file"] not in WRONG_SUM
        if file["pil_format"] not in ("PNG", "JPEG", "TIFF") or not sound or file["frames"] == "2":
            assert isinstance(found, str), file["file"]
            codes.add(found)
            continue
        assert not isinstance(found, str), file["file"]
        image, plain = found
        width, height = map(int, file["pil_size"].split("x"))
        turned = file["exif_orientation"] in ("5", "6", "7", "8")
        assert image.shape == ((width, height, 3) if turned else (height, width, 3)), file["file"]
        assert image.dtype == np.uint8
        assert not plain or np.array_equal(decode_plain(Path(file["path"]).read_bytes()), image), file["file"]
    assert codes == {"not_an_image", "corrupt", "multi_frame", "truncated"}


def test_every_odd_file_is_read_or_refused_under_other_policies_too(files: list[dict[str, str]]) -> None:
    lenient = ImagesSection(frames="first", alpha=(255, 255, 255))
    strict = ImagesSection(alpha="reject", bit_depth="reject", cmyk="reject")
    codes = [{code for file in files if isinstance(code := image_or_code(file, it), str)} for it in (lenient, strict)]
    assert codes[0] == {"not_an_image", "corrupt", "truncated", "unsupported_mode"}
    assert codes[1] == {"not_an_image", "corrupt", "truncated", "multi_frame", "alpha", "bit_depth"}


def test_every_odd_file_gives_ids_or_an_image_error_as_a_mask(files: list[dict[str, str]]) -> None:
    palettes = 0
    for file in files:
        try:
            mask = decode_mask(Path(file["path"]).read_bytes(), POLICY)
        except ImageError:
            continue
        assert mask.dtype == np.uint16
        assert mask.ndim == 2
        if file["pil_mode"] == "P":
            palettes += 1
            assert np.array_equal(mask, np.asarray(Image.open(file["path"]))), file["file"]
    assert palettes >= 50


def test_every_photo_of_one_scene_comes_out_upright(data_root: Path) -> None:
    photos = [(data_root / f"odd_images/libvips/rotation/{number}.jpg").read_bytes() for number in range(2, 9)]
    thumbnails = [
        cv2.resize(decode_image(photo, POLICY)[0], (12, 16), interpolation=cv2.INTER_AREA).astype(int)
        for photo in photos
    ]
    assert all(np.abs(thumbnail - thumbnails[0]).mean() < 3 for thumbnail in thumbnails)
