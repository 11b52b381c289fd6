"""Pages of TIFF volumes: directories linked in a chain, each with the pixels of one picture."""

import io
import struct
from collections.abc import Iterator
from itertools import islice
from typing import BinaryIO

from unet_ray.errors import ImageError
from unet_ray.images.header import TiffForm, kind_of, tiff_form

_MOST_PAGES = 65_536


def count_pages(file: BinaryIO) -> int:
    """Return the number of pages of a TIFF that can be sought in; only the links between them are read.

    Raises:
        ImageError: not_an_image, truncated, too_large with more than 65,536 pages, or corrupt when the links form a
            ring.
    """
    start = file.read(4)
    if kind_of(start) != "TIFF":
        raise ImageError("not_an_image", f"not a TIFF file: it starts with {start!r}")
    return sum(1 for _ in _directories(file, tiff_form(start)))


def take_page(data: bytes, page: int) -> bytes:
    """Return a TIFF with one page, from 0, as its first, which is where a decoder looks.

    Raises:
        ImageError: As `count_pages`, and missing_page.
    """
    if kind_of(data) != "TIFF":
        raise ImageError("not_an_image", f"not a TIFF file, of which page {page} was planned")
    form = tiff_form(data)
    at = next(islice(_directories(io.BytesIO(data), form), page, None), None)
    if at is None:
        raise ImageError("missing_page", f"the TIFF has no page {page}, counted from 0")
    return data[: form.first] + form.offset.pack(at) + data[form.first + form.offset.size :]


def _directories(file: BinaryIO, form: TiffForm) -> Iterator[int]:
    """Yield where the directory of each page starts."""
    seen: set[int] = set()
    at = _read(file, form.offset, form.first)
    while at:
        if at in seen:
            raise ImageError("corrupt", "TIFF: its pages are linked in a ring")
        if len(seen) == _MOST_PAGES:
            raise ImageError("too_large", f"TIFF with more than {_MOST_PAGES} pages; split it")
        seen.add(at)
        yield at
        entries = _read(file, form.entries, at)
        at = _read(file, form.offset, at + form.entries.size + entries * (form.entry.size + form.offset.size))


def _read(file: BinaryIO, number: struct.Struct, at: int) -> int:
    try:
        file.seek(at)
        [value] = number.unpack(file.read(number.size))
    except (struct.error, OverflowError):
        raise ImageError("truncated", f"the TIFF ends before byte {at}, where a page is linked") from None
    return int(value)
