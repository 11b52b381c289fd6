"""Small files that ask a decoder for much: memory, time, or both."""

import struct
import zlib
from collections.abc import Sequence

import cv2
import numpy as np

from tests.unit.image_files import png_chunk

_START, _END = b"\x89PNG\r\n\x1a\n", png_chunk(b"IEND", b"")
_Tag = tuple[int, int, int, int]  # number, type, count, value or position


def make_bombs() -> dict[str, tuple[bytes, str]]:
    """Return each bomb by file name, with the code it is refused by."""
    endless, seven_megabytes = _zeros(2**28), _zeros(7 * 2**20)
    text = png_chunk(b"zTXt", b"a\0\0" + seven_megabytes)
    packed = zlib.compress(bytes(256))
    megabyte = [(40_000 + number, 7, 2**20, 8) for number in range(1500)]
    return {
        "huge.png": (_START + _ihdr(60_000, 60_000) + png_chunk(b"IDAT", endless) + _END, "too_large"),
        "largest.png": (_START + _ihdr(2**31 - 1, 2**31 - 1) + png_chunk(b"IDAT", packed) + _END, "too_large"),
        "wide.png": (_START + _ihdr(1_000_001, 1) + png_chunk(b"IDAT", _zeros(3_000_004)) + _END, "too_large"),
        "empty_promise.png": (_START + _ihdr(8000, 7999) + png_chunk(b"IDAT", packed) + _END, "corrupt"),
        "endless_pixels.png": (_START + _ihdr(16, 16) + png_chunk(b"IDAT", endless) + _END, "corrupt"),
        "text.png": (_png(png_chunk(b"zTXt", b"a\0\0" + endless)), "corrupt"),
        "profile.png": (_png(png_chunk(b"iCCP", b"a\0\0" + endless)), "corrupt"),
        "texts.png": (_png(text * 1000), "too_large"),
        "late_texts.png": (_png(b"", text * 1000), "too_large"),
        "crumbs.png": (_png(png_chunk(b"prVt", b"x") * 500_000), "too_large"),
        "huge.jpg": (_jpeg(65_000, 65_000), "too_large"),
        "empty_promise.jpg": (_jpeg(8000, 7999), "corrupt"),
        "scans.jpg": (_many_scans(), "too_large"),
        "huge.tif": (_tiff(60_000, 60_000, packed), "too_large"),
        "empty_promise.tif": (_tiff(8000, 7999, packed), "corrupt"),
        "tile.tif": (_tiff(16, 16, endless, tile=32_768), "too_large"),
        "strips.tif": (_tiff(16, 16, packed, more=[(40_000, 4, 2**28, 8)]), "too_large"),
        "tags.tif": (_tiff(16, 16, packed + bytes(2**20), more=megabyte), "corrupt"),
        "frames.tif": (_many_frames(), "multi_frame"),
        "screen.gif.png": (b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + bytes(100), "not_an_image"),
    }


def make_duds() -> dict[str, bytes]:
    """Return files that are read without harm: EXIF that claims its bytes over and over, pixels beyond the last row."""
    return {
        "endless_strip.tif": _tiff(16, 16, _zeros(2**28)),
        "exif.png": _png(png_chunk(b"eXIf", _exif(2000, 2**20))),
        "late_exif.png": _png(b"", png_chunk(b"eXIf", _exif(2000, 2**20))),
        "exif.jpg": _with_exif(_jpeg(16, 16), _exif(5000, 64_000)),
    }


def _zeros(number: int) -> bytes:
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(2**20)) for _ in range(number >> 20)) + packer.flush()


def _ihdr(width: int, height: int) -> bytes:
    return png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


def _png(before: bytes, after: bytes = b"") -> bytes:
    pixels = png_chunk(b"IDAT", zlib.compress(bytes(16 * 49)))
    return _START + _ihdr(16, 16) + before + pixels + after + _END


def _jpeg(width: int, height: int, progressive: bool = False) -> bytes:
    flags = [cv2.IMWRITE_JPEG_PROGRESSIVE, int(progressive)]
    data = cv2.imencode(".jpg", np.full((16, 16, 3), 99, np.uint8), flags)[1].tobytes()
    frame = data.index(b"\xff\xc2" if progressive else b"\xff\xc0")
    return data[: frame + 5] + struct.pack(">HH", height, width) + data[frame + 9 :]


def _many_scans() -> bytes:
    data = _jpeg(2000, 2000, progressive=True)
    scan = data.rindex(b"\xff\xda")
    return data[:scan] + data[scan:-2] * 5000 + data[-2:]


def _exif(tags: int, size: int) -> bytes:
    entries = b"".join(struct.pack("<HHII", 1000 + tag, 7, size - 100, 8) for tag in range(tags))
    return (b"II*\0" + struct.pack("<IH", 8, tags) + entries).ljust(size, b"\0")


def _with_exif(jpeg: bytes, exif: bytes) -> bytes:
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 8) + b"Exif\0\0" + exif + jpeg[2:]


def _tiff(width: int, height: int, packed: bytes, tile: int = 0, more: Sequence[_Tag] = ()) -> bytes:
    """Return a grey TIFF whose pixel data, at byte 8, is one strip or one tile of deflated bytes."""
    tags: list[_Tag] = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1)]
    tags += [(277, 3, 1, 1), *more]
    if tile:
        tags += [(322, 4, 1, tile), (323, 4, 1, tile), (324, 4, 1, 8), (325, 4, 1, len(packed))]
    else:
        tags += [(273, 4, 1, 8), (278, 4, 1, height), (279, 4, 1, len(packed))]
    return b"II*\0" + struct.pack("<I", 8 + len(packed)) + packed + _directory(tags) + bytes(4)


def _directory(tags: Sequence[_Tag]) -> bytes:
    return struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))


def _many_frames() -> bytes:
    data = bytearray(_tiff(16, 16, zlib.compress(bytes(256))))
    for _ in range(100_000):
        data[-4:] = struct.pack("<I", len(data))
        data += _directory([(256, 4, 1, 16)]) + bytes(4)
    return bytes(data)
