"""What a file claims, checked against its bytes before a decoder believes it.

A decoder allocates and unpacks what a file asks for: tiles larger than the image, a text of gigabytes behind the
pixels, ten thousand passes over them. Each check walks the chunks, tags or markers of one kind of file, in a time that
does not depend on what they claim. Pure functions of bytes, raising `ImageError`.
"""

import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unet_ray.errors import ImageError

Kind = Literal["PNG", "JPEG", "TIFF"]

_STARTS: Mapping[bytes, Kind] = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    **dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "TIFF"),
}

_CHUNK = struct.Struct(">I4s")  # length and kind of a PNG chunk
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type (PNG specification, 11.2.2)
_FRAME_DATA = (b"IDAT", b"fdAT", b"fcTL")
_MOST_METADATA = 100  # chunks that hold no pixels, each of which may unpack to megabytes

_JPEG_END, _JPEG_SCAN = b"\xff\xd9", b"\xff\xda"
_JPEG_MOST_PIXELS_PER_BYTE = 512  # a Huffman code has a bit at least, and a block of luma 64 pixels
_JPEG_MOST_SCANS = 100

_TIFF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_TIFF_NUMBERS = {3: "u2", 4: "u4", 16: "u8"}
_TIFF_MOST_NUMBERS = 2**18
_TIFF_SPARE_BYTES = 2**24  # what a few tags with wrong counts may read twice
_WIDTH, _LENGTH, _TILE_WIDTH, _TILE_LENGTH = 256, 257, 322, 323
_STRIPS, _TILES = (273, 279), (324, 325)  # tags of the offsets and of the sizes
_LARGEST_SMALL_TILE = 2**24


def kind_of(data: bytes) -> Kind | None:
    """Tell the kind of a file by how it starts; None for one that is not read."""
    return next((kind for start, kind in _STARTS.items() if data.startswith(start)), None)


# PNG


def check_png(data: bytes) -> bytes:
    """Check the chunks of a PNG, without unpacking any; return its EXIF, wherever it stands, or nothing.

    Raises:
        ImageError: truncated without an end chunk; too_large with more than 100 chunks of metadata; corrupt when the
            pixel data is far more than the size needs.
    """
    metadata = packed = 0
    exif = b""
    whole = False
    for kind, start, end in _png_chunks(data):
        if kind == b"IDAT":
            packed += end - start
        elif kind == b"IEND":
            whole = end + 4 <= len(data)
        elif kind not in _FRAME_DATA:
            metadata += 1
            exif = data[start:end] if kind == b"eXIf" else exif
            if metadata > _MOST_METADATA:
                raise ImageError("too_large", f"PNG with more than {_MOST_METADATA} chunks of metadata; strip them")
    if not whole:
        raise truncated("PNG", data)
    width, height, bits, colour = struct.unpack_from(">IIBB", data, 16)
    needed = height * (1 + width * bits * _PNG_CHANNELS.get(colour, 4) // 8)
    if packed > 2 * needed + 2**16:
        raise ImageError("corrupt", f"PNG: {packed} bytes of pixel data, where {width} x {height} px need {needed}")
    return exif


def check_png_sums(data: bytes) -> None:
    """Check the sums of the pixel data, which Pillow does not.

    Raises:
        ImageError: corrupt.
    """
    view = memoryview(data)
    for kind, start, end in _png_chunks(data):
        if kind == b"IDAT" and zlib.crc32(view[start - 4 : end]) != int.from_bytes(view[end : end + 4]):
            raise ImageError("corrupt", "PNG: a checksum of the pixel data is wrong")


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind of each chunk and where its content starts and ends, which may be beyond the data."""
    at = 8
    while at + 8 <= len(data):
        size, kind = _CHUNK.unpack_from(data, at)
        yield kind, at + 8, at + 8 + size
        if kind == b"IEND":
            return
        at += 12 + size


# JPEG


def check_jpeg(data: bytes) -> None:
    """Check that a JPEG has an end behind its last scan: a cut one would decode to grey below the cut.

    Raises:
        ImageError: truncated.
    """
    if _JPEG_END not in data[-64:] and data.rfind(_JPEG_END) <= data.rfind(_JPEG_SCAN):
        raise truncated("JPEG", data)


def check_jpeg_size(data: bytes, width: int, height: int, progressive: bool) -> None:
    """Check that a whole JPEG can hold the pixels it promises, and does not ask for endless passes over them.

    Raises:
        ImageError: corrupt or too_large.
    """
    if width * height > _JPEG_MOST_PIXELS_PER_BYTE * len(data):
        raise ImageError("corrupt", f"JPEG: {len(data)} bytes cannot hold {width} x {height} px")
    if progressive and data.count(_JPEG_SCAN) > _JPEG_MOST_SCANS:
        raise ImageError("too_large", f"JPEG with more than {_JPEG_MOST_SCANS} scans; save it again")


# TIFF


class TiffForm(NamedTuple):
    """How a TIFF writes a directory: an offset, how many entries there are, the head of one; where the first starts."""

    offset: struct.Struct
    entries: struct.Struct
    entry: struct.Struct  # tag, kind and number; its values or their offset follow, as wide as an offset
    first: int


class _Tag(NamedTuple):
    kind: int
    number: int
    at: int  # position of the values in the file


def tiff_form(data: bytes) -> TiffForm:
    """Return the form of a TIFF by its first four bytes: little or big endian, classic or BigTIFF."""
    order = "<" if data.startswith(b"II") else ">"
    if data[2:4] in (b"+\0", b"\0+"):
        return TiffForm(struct.Struct(f"{order}Q"), struct.Struct(f"{order}Q"), struct.Struct(f"{order}HHQ"), 8)
    return TiffForm(struct.Struct(f"{order}I"), struct.Struct(f"{order}H"), struct.Struct(f"{order}HHI"), 4)


def check_tiff(data: bytes) -> None:
    """Check the first directory of a TIFF.

    Raises:
        ImageError: truncated when the directory or the pixel data is not all there; too_large for large tiles of a
            small image and for tags with very many numbers; corrupt when tags share their bytes many times over.
    """
    order = "<" if data.startswith(b"II") else ">"
    try:
        tags = _read_directory(data, tiff_form(data))
        sizes = [_numbers(data, order, tags.get(tag)) for tag in (_WIDTH, _LENGTH, _TILE_WIDTH, _TILE_LENGTH)]
        ends = [_ends(data, order, tags, pieces) for pieces in (_STRIPS, _TILES)]
    except (struct.error, ValueError):
        raise truncated("TIFF", data) from None
    claimed = sum(min(tag.number * _TIFF_SIZES.get(tag.kind, 0), max(0, len(data) - tag.at)) for tag in tags.values())
    if claimed > len(data) + _TIFF_SPARE_BYTES:
        raise ImageError("corrupt", f"TIFF: its tags claim {claimed} bytes, the file has {len(data)}")
    if max(ends) > len(data):
        raise truncated("TIFF", data)
    width, length, tile_width, tile_length = (int(values[0]) if len(values) else 0 for values in sizes)
    if tile_width * tile_length > max(width * length, _LARGEST_SMALL_TILE):
        raise ImageError("too_large", f"TIFF of {width} x {length} px in tiles of {tile_width} x {tile_length}")


def _read_directory(data: bytes, form: TiffForm) -> dict[int, _Tag]:
    (at,) = form.offset.unpack_from(data, form.first)
    if at < 8:
        raise ImageError("corrupt", f"TIFF: its directory starts inside the header, at byte {at}")
    (entries,) = form.entries.unpack_from(data, at)
    first, room = at + form.entries.size, form.offset.size
    step = form.entry.size + room
    tags: dict[int, _Tag] = {}
    for start in range(first, first + step * min(entries, 2**16), step):
        tag, kind, values = form.entry.unpack_from(data, start)
        place = start + form.entry.size
        if values * _TIFF_SIZES.get(kind, 0) > room:
            (place,) = form.offset.unpack_from(data, place)
        tags[tag] = _Tag(kind, values, place)
    numbers = sum(tag.number for tag in tags.values() if _TIFF_SIZES.get(tag.kind, 0) > 1)
    if numbers > _TIFF_MOST_NUMBERS:
        raise ImageError("too_large", f"TIFF with {numbers} numbers in its tags; save it with larger strips or tiles")
    return tags


def _numbers(data: bytes, order: str, tag: _Tag | None) -> NDArray[np.uint64]:
    if tag is None or tag.kind not in _TIFF_NUMBERS:
        return np.empty(0, np.uint64)
    return np.frombuffer(data, order + _TIFF_NUMBERS[tag.kind], tag.number, tag.at).astype(np.uint64)


def _ends(data: bytes, order: str, tags: Mapping[int, _Tag], pieces: tuple[int, int]) -> int:
    """Return where the last of the pieces of pixel data ends, 0 where there are none."""
    offsets, sizes = (_numbers(data, order, tags.get(tag)) for tag in pieces)
    if len(offsets) != len(sizes):
        return 0
    return max((int(offset) + int(size) for offset, size in zip(offsets, sizes, strict=True)), default=0)


def truncated(kind: Kind, data: bytes) -> ImageError:
    """Return the error of a file that was cut off."""
    return ImageError("truncated", f"the {kind} ends after {len(data)} bytes, before its end")
