"""Pairs of an image and a mask, spoiled in every way that was thought of, and odd ones that are fine."""

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.unit.image_files import encode, exif, grey_png, palette_of, png_chunk, rotated
from unet_ray.datasets import synthetic

CLASSES = synthetic.CLASSES
HEIGHT, WIDTH = 48, 64
HTML = b"<!DOCTYPE html><html><body>404 Not Found</body></html>"
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, kw_only=True)
class Case:
    """The files of a pair and the code that `prepare` gives it, None for a usable one.

    Without a mask there is none. ``later`` is done to a file once it was listed: it is gone, or another one.
    """

    image: bytes
    mask: bytes | None
    code: str | None = None
    later: Mapping[str, bytes | None] | None = None


def draw(frame: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return a small street scene and its mask."""
    return synthetic.render_frame(0, 0, frame, HEIGHT, WIDTH)


def make_cases() -> dict[str, Case]:
    """Return every case by the file name of its image; its mask is called alike, and .png."""
    image, ids = draw(0)
    png, jpg, mask = encode(image, "PNG"), encode(image, "JPEG", quality=95), encode(ids, "PNG")
    images = {name: Case(image=data, mask=mask, code=code) for name, (data, code) in _images(image, png, jpg).items()}
    masks = {name: Case(image=png, mask=data, code=code) for name, (data, code) in _masks(image, ids, mask).items()}
    other = encode(image[::-1].copy(), "PNG")
    storage = {
        "mask_never_there.png": Case(image=png, mask=None, code="missing_mask"),
        "image_gone.png": Case(image=png, mask=mask, code="missing_image", later={"images": None}),
        "mask_gone.png": Case(image=png, mask=mask, code="missing_mask", later={"masks": None}),
        "image_changed.png": Case(image=png, mask=mask, code="changed_image", later={"images": other}),
        "mask_changed.png": Case(image=png, mask=mask, code="changed_mask", later={"masks": mask + b"more"}),
    }
    return images | masks | storage | _fine(image, ids)


def write_cases(root: Path, cases: Mapping[str, Case]) -> None:
    """Write the files of cases as they are when they are listed, into images/ and masks/."""
    for name, case in cases.items():
        _put(root, "images", name, case.image)
        _put(root, "masks", name, case.mask)


def pass_time(root: Path, cases: Mapping[str, Case]) -> None:
    """Do to the files what happens once they were listed."""
    for name, case in cases.items():
        for folder, data in (case.later or {}).items():
            _put(root, folder, name, data)


def _put(root: Path, folder: str, name: str, data: bytes | None) -> None:
    path = root / folder / (name if folder == "images" else f"{Path(name).stem}.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    if data is None:
        path.unlink(missing_ok=True)
    else:
        path.write_bytes(data)


def _images(image: NDArray[np.uint8], png: bytes, jpg: bytes) -> dict[str, tuple[bytes, str]]:
    grey = image[:, :, 0]
    tif = encode(image, "TIFF", compression="tiff_adobe_deflate")
    return {
        "cut.jpg": (jpg[: len(jpg) // 2], "truncated"),
        "cut_in_its_end.jpg": (jpg[:-1], "truncated"),
        "cut_progressive.jpg": (encode(image, "JPEG", progressive=True)[:-100], "truncated"),
        "cut_png.png": (png[: len(png) // 2], "truncated"),
        "cut_png_in_its_end.png": (png[:-1], "truncated"),
        "cut_tiff.tif": (tif[: len(tif) // 2], "truncated"),
        "header_only.png": (png[:33], "truncated"),
        "bit_flipped.png": (_flip(png), "corrupt"),
        "bit_flipped_palette.png": (_flip(encode(Image.fromarray(image).quantize(9), "PNG")), "corrupt"),
        "noise_behind_a_header.jpg": (jpg[:20] + bytes(range(256)) * 4 + b"\xff\xd9", "corrupt"),
        "empty.png": (b"", "empty_object"),
        "html.png": (HTML, "not_an_image"),
        "gif.png": (encode(grey, "GIF"), "not_an_image"),
        "webp.jpg": (encode(image, "WEBP"), "not_an_image"),
        "bmp.png": (encode(image, "BMP"), "not_an_image"),
        "zeros.jpg": (bytes(1000), "not_an_image"),
        "animated.png": (_frames(image, "PNG"), "multi_frame"),
        "pages.tif": (_frames(image, "TIFF"), "multi_frame"),
        "float.tif": (encode(grey.astype(np.float32), "TIFF"), "unsupported_mode"),
        "32_bits.tif": (encode(grey.astype(np.int32), "TIFF"), "unsupported_mode"),
        "bomb.png": (_promise(png, 60_000, 60_000), "too_large"),
        "strip.png": (_promise(png, 2_000_000, 1), "too_large"),
        "many_texts.png": (png[:33] + png_chunk(b"tEXt", b"a\0b") * 101 + png[33:], "too_large"),
        "text_bomb.png": (png[:33] + png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**22))) + png[33:], "corrupt"),
        "promise.jpg": (_promise_jpeg(jpg, 8000, 7999), "corrupt"),
    }


def _masks(image: NDArray[np.uint8], ids: NDArray[np.uint8], mask: bytes) -> dict[str, tuple[bytes, str]]:
    unknown = np.array([0, 1, 7, 8, 255], np.uint8)[ids % 5]
    colours = np.array(synthetic.PALETTE, np.uint8)[ids]
    blurred = cv2.resize(cv2.resize(colours, (WIDTH * 2, HEIGHT * 2)), (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    two_pages = _frames(ids, "TIFF")
    return {
        "mask_smaller.png": (encode(ids[:-1], "PNG"), "mask_size_mismatch"),
        "mask_transposed.png": (encode(ids.T.copy(), "PNG"), "mask_size_mismatch"),
        "mask_of_unknown_ids.png": (encode(unknown, "PNG"), "class_id_out_of_range"),
        "mask_of_high_ids.png": (encode(ids.astype(np.uint16) * 5000, "PNG"), "class_id_out_of_range"),
        "mask_black_and_white.png": (
            encode(np.where(ids == 2, 254, 0).astype(np.uint8), "PNG"),
            "class_id_out_of_range",
        ),
        "mask_lossy.png": (encode(ids, "JPEG"), "lossy_mask"),
        "mask_in_colour.png": (encode(colours, "PNG"), "colour_mask"),
        "mask_anti_aliased.png": (encode(blurred, "PNG"), "colour_mask"),
        "mask_cut.png": (mask[:-40], "truncated"),
        "mask_bit_flipped.png": (_flip(mask), "corrupt"),
        "mask_palette_bit_flipped.png": (_flip(encode(palette_of(ids), "PNG")), "corrupt"),
        "mask_empty.png": (b"", "empty_object"),
        "mask_html.png": (HTML, "not_an_image"),
        "mask_float.png": (encode(ids.astype(np.float32), "TIFF"), "unsupported_mode"),
        "mask_cmyk.png": (encode(Image.fromarray(image).convert("CMYK"), "TIFF"), "unsupported_mode"),
        "mask_pages.png": (two_pages, "multi_frame"),
        "mask_bomb.png": (_promise(mask, 60_000, 60_000), "too_large"),
    }


def _fine(image: NDArray[np.uint8], ids: NDArray[np.uint8]) -> dict[str, Case]:
    png, jpg, mask = encode(image, "PNG"), encode(image, "JPEG", quality=95), encode(ids, "PNG")
    few = ids.clip(0, 3)
    colours = [value for colour in synthetic.PALETTE for value in colour]
    deep = image[:, :, 0].astype(np.uint16) * 257
    images: dict[str, bytes] = {
        "fine.png": png,
        "fine_jpeg.jpg": jpg,
        "fine_deflated.tif": encode(image, "TIFF", compression="tiff_adobe_deflate"),
        "png_in_truth.jpg": png,
        "jpg_in_truth.png": jpg,
        "tif_in_truth.png": encode(image, "TIFF"),
        "transparent.png": encode(np.dstack([image, image[:, :, 0]]), "PNG"),
        "palette.png": encode(Image.fromarray(image).quantize(16), "PNG"),
        "16_bits.png": encode(deep, "PNG"),
        "16_bits_tiff.tif": encode(deep, "TIFF"),
        "printing_colours.jpg": encode(Image.fromarray(image).convert("CMYK"), "JPEG"),
        "one_bit.tif": encode(Image.fromarray(image[:, :, 0]).convert("1"), "TIFF"),
        "turned.png": encode(rotated(image, 6), "PNG", exif=exif(6)),
        "turned_jpeg.jpg": encode(rotated(image, 5), "JPEG", exif=exif(5)),
    }
    masks: dict[str, bytes] = {
        "mask_palette.png": encode(palette_of(ids, colours), "PNG"),
        "mask_2_bits.png": grey_png(few.tolist(), 2),
        "mask_4_bits.png": grey_png(ids.tolist(), 4),
        "mask_16_bits.png": encode(ids.astype(np.uint16), "PNG"),
        "mask_tif_in_truth.png": encode(ids, "TIFF"),
        "mask_equal_channels.png": encode(np.dstack([ids] * 3), "PNG"),
        "mask_of_background.png": encode(np.zeros_like(ids), "PNG"),
        "mask_all_ignored.png": encode(np.full_like(ids, 255), "PNG"),
    }
    return {name: Case(image=data, mask=mask) for name, data in images.items()} | {
        name: Case(image=png, mask=data) for name, data in masks.items()
    }


def _frames(pixels: NDArray[Any], format: str) -> bytes:
    return encode(pixels, format, save_all=True, append_images=[Image.fromarray(pixels[::-1].copy())])


def _flip(png: bytes) -> bytes:
    """Return a PNG with one bit of its pixel data flipped."""
    position = png.index(b"IDAT") + 20
    return png[:position] + bytes([png[position] ^ 8]) + png[position + 1 :]


def _promise(png: bytes, width: int, height: int) -> bytes:
    """Return a PNG that claims another size, with its sum put right."""
    return _PNG + png_chunk(b"IHDR", struct.pack(">II", width, height) + png[24:29]) + png[33:]


def _promise_jpeg(jpg: bytes, width: int, height: int) -> bytes:
    frame = jpg.index(b"\xff\xc0")
    return jpg[: frame + 5] + struct.pack(">HH", height, width) + jpg[frame + 9 :]
