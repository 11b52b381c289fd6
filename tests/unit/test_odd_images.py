import csv
from pathlib import Path

import cv2
import numpy as np

from unet_ray.config import ImagesSection
from unet_ray.errors import ImageError
from unet_ray.images.decode import decode_image, decode_mask, decode_plain

POLICY = ImagesSection(max_pixels=10**6, max_bytes=10**6)


def test_every_odd_file_gives_pixels_or_an_image_error(data_root: Path) -> None:
    files = list(csv.DictReader((data_root / "odd_images/manifest.csv").open(encoding="utf-8")))
    decoded = 0
    for file in files:
        data = (data_root / "odd_images" / file["file"]).read_bytes()
        try:
            image, plain = decode_image(data, POLICY)
        except ImageError:
            continue
        decoded += 1
        width, height = map(int, file["pil_size"].split("x"))
        turned = file["exif_orientation"] in ("5", "6", "7", "8")
        assert image.shape == ((width, height, 3) if turned else (height, width, 3)), file["file"]
        assert image.dtype == np.uint8
        assert not plain or np.array_equal(decode_plain(data), image), file["file"]
    assert len(files) == 190
    assert decoded >= 160


def test_every_odd_file_gives_ids_or_an_image_error_as_a_mask(data_root: Path) -> None:
    for path in sorted((data_root / "odd_images").rglob("*.*")):
        try:
            mask = decode_mask(path.read_bytes(), POLICY)
        except ImageError:
            continue
        assert mask.dtype == np.uint16
        assert mask.ndim == 2


def test_every_photo_of_one_scene_comes_out_upright(data_root: Path) -> None:
    photos = [(data_root / f"odd_images/libvips/rotation/{number}.jpg").read_bytes() for number in range(2, 9)]
    thumbnails = [
        cv2.resize(decode_image(photo, POLICY)[0], (12, 16), interpolation=cv2.INTER_AREA).astype(int)
        for photo in photos
    ]
    assert all(np.abs(thumbnail - thumbnails[0]).mean() < 3 for thumbnail in thumbnails)
