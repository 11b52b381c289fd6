"""Small image files, made in memory."""

import io
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unet_ray.config_input import ImagesSection

POLICY = ImagesSection(max_pixels=10_000, max_bytes=100_000)


def gradient(height: int, width: int) -> NDArray[np.uint8]:
    """Return an ``(height, width, 3)`` uint8 image that looks different from every side, smooth enough for JPEG."""
    rows, columns = np.mgrid[:height, :width]
    planes = [255 * rows / height, 255 * columns / width, 128 * (rows / height + columns / width)]
    return np.stack(planes, axis=2).astype(np.uint8)


def blobs(num_classes: int, height: int, width: int, seed: int = 0) -> NDArray[np.intp]:
    """Return an ``(height, width)`` mask of round patches of each class, of ten pixels and more."""
    noise = np.random.default_rng(seed).random((num_classes, height, width))
    return np.argmax([cv2.GaussianBlur(plane, (0, 0), 12) for plane in noise], axis=0)


def encode(picture: Image.Image | NDArray[Any], format: str, **options: Any) -> bytes:
    """Return an image file as Pillow writes it."""
    sink = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(sink, format, **options)
    return sink.getvalue()


def palette_of(indices: NDArray[np.uint8], colours: Sequence[int] = range(36)) -> Image.Image:
    """Return a palette picture of indices."""
    picture = Image.fromarray(indices, "P")
    picture.putpalette(colours)
    return picture


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """Return a PNG chunk with its sum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def grey_png(rows: list[list[int]], bits: int) -> bytes:
    """Return a grey PNG with samples of 1, 2 or 4 bits, which Pillow reads but does not write."""
    per_byte = 8 // bits
    packed = b""
    for row in rows:
        padded = row + [0] * (-len(row) % per_byte)
        chunks = [padded[start : start + per_byte] for start in range(0, len(padded), per_byte)]
        packed += b"\0" + bytes(int("".join(f"{value:0{bits}b}" for value in chunk), 2) for chunk in chunks)
    header = struct.pack(">IIBBBBB", len(rows[0]), len(rows), bits, 0, 0, 0, 0)
    body = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(packed)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def grey_tiff(rows: list[list[int]], bits: int, photometric: int) -> bytes:
    """Return an uncompressed grey TIFF of one strip, its width a multiple of the samples in a byte."""
    strip = b"".join(
        int("".join(f"{value:0{bits}b}" for value in row), 2).to_bytes(len(row) * bits // 8, "big") for row in rows
    )
    tags = [(256, len(rows[0])), (257, len(rows)), (258, bits), (259, 1), (262, photometric), (273, 8), (277, 1)]
    tags += [(278, len(rows)), (279, len(strip))]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    offset = 8 + len(strip)
    return b"II*\0" + struct.pack("<I", offset) + strip + struct.pack("<H", len(tags)) + entries + bytes(4)


def rotated(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return upright pixels as a camera stores them with an orientation: the inverse of what a viewer does."""
    stored = {
        1: pixels,
        2: np.fliplr(pixels),
        3: np.rot90(pixels, 2),
        4: np.flipud(pixels),
        5: pixels.swapaxes(0, 1),
        6: np.rot90(pixels),
        7: np.rot90(pixels, 2).swapaxes(0, 1),
        8: np.rot90(pixels, -1),
    }[orientation]
    return np.ascontiguousarray(stored)


def exif(orientation: int) -> bytes:
    """Return EXIF that holds nothing but an orientation."""
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()
