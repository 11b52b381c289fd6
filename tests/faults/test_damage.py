"""Damaged files: cut short, with flipped bits, and mutated at random."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.faults.corpus import draw
from tests.unit.image_files import encode, palette_of
from unet_ray.config_input import ImagesSection
from unet_ray.errors import ImageError
from unet_ray.images.decode import decode_image, decode_mask

POLICY = ImagesSection()
IMAGE, IDS = draw(0)
GREY = IMAGE[:, :, 0]
DEEP = GREY.astype(np.uint16) * 257
PNGS = {
    "RGB": encode(IMAGE, "PNG"),
    "grey": encode(GREY, "PNG"),
    "palette": encode(palette_of(IDS), "PNG"),
    "grey of 16 bits": encode(DEEP, "PNG"),
    "one bit": encode(Image.fromarray(GREY).convert("1"), "PNG"),
}
PREVIEW = encode(IMAGE[::4, ::4].copy(), "JPEG")
WHOLE = PNGS | {
    "RGBA": encode(np.dstack([IMAGE, GREY]), "PNG"),
    "grey and alpha": encode(np.dstack([GREY, GREY]), "PNG"),
    "not packed": encode(IMAGE, "PNG", compress_level=0),
    **{f"JPEG {quality}": encode(IMAGE, "JPEG", quality=quality) for quality in (1, 50, 95)},
    **{f"JPEG {sampling}": encode(IMAGE, "JPEG", subsampling=sampling) for sampling in (0, 1)},
    "grey JPEG": encode(GREY, "JPEG"),
    "progressive JPEG": encode(IMAGE, "JPEG", progressive=True),
    "JPEG with restarts": encode(IMAGE, "JPEG", restart_marker_rows=1),
    "CMYK JPEG": encode(Image.fromarray(IMAGE).convert("CMYK"), "JPEG"),
    "JPEG with a second picture": encode(
        Image.fromarray(IMAGE), "MPO", save_all=True, append_images=[Image.fromarray(IMAGE[::4, ::4].copy())]
    ),
    "JPEG with a preview": encode(IMAGE, "JPEG", exif=b"Exif\0\0" + PREVIEW),
    **{f"TIFF {how}": encode(IMAGE, "TIFF", compression=how) for how in ("raw", "tiff_lzw", "jpeg", "packbits")},
    "TIFF of 16 bits": encode(DEEP, "TIFF", compression="tiff_adobe_deflate"),
    "TIFF fax": encode(Image.fromarray(GREY).convert("1"), "TIFF", compression="group4"),
}


def pixels_or_code(decode: Any, data: bytes) -> NDArray[Any] | str:
    try:
        found = decode(data, POLICY)
    except ImageError as error:
        return error.code
    return found[0] if isinstance(found, tuple) else found


@pytest.mark.parametrize("kind", WHOLE)
def test_a_file_that_was_cut_is_never_half_an_image(kind: str) -> None:
    data = WHOLE[kind]
    decode_image(data, POLICY)
    cuts = {len(data) * percent // 100 for percent in (10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99)}
    for kept in cuts | {len(data) - 3, len(data) - 2, len(data) - 1}:
        found = pixels_or_code(decode_image, data[:kept])
        if isinstance(found, str):
            assert found in ("truncated", "corrupt"), kept
        else:  # what was cut off is not needed
            assert np.array_equal(found, decode_image(data, POLICY)[0]), kept
            assert kind.startswith(("TIFF", "JPEG with a second picture"))


def test_there_are_24_files_to_cut() -> None:
    assert len(WHOLE) >= 24


@pytest.mark.parametrize("decode", [decode_image, decode_mask])
@pytest.mark.parametrize("kind", PNGS)
def test_a_flipped_bit_in_a_png_is_caught_or_changes_nothing(kind: str, decode: Any) -> None:
    whole, random = pixels_or_code(decode, PNGS[kind]), np.random.default_rng(len(kind))
    caught = 0
    for position in random.choice(len(PNGS[kind]), 50, replace=False).tolist():
        damaged = bytearray(PNGS[kind])
        damaged[position] ^= 1 << int(random.integers(8))
        found = pixels_or_code(decode, bytes(damaged))
        caught += isinstance(found, str)
        assert isinstance(found, str) or np.array_equal(found, whole), position
    assert caught >= 40
