import io
import itertools
import struct
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.unit.image_files import POLICY, encode
from unet_ray.errors import ImageError
from unet_ray.images.decode import decode_image, decode_mask
from unet_ray.images.pages import count_pages, take_page

FIRST = replace(POLICY, frames="first")


def volume(pages: int, **options: Any) -> bytes:
    pictures = [Image.fromarray(np.full((6, 5 + page), 20 * page + 1, np.uint8)) for page in range(pages)]
    return encode(pictures[0], "TIFF", save_all=True, append_images=pictures[1:], **options)


def chain(*directories: int) -> bytes:
    """Return a big-endian TIFF of empty directories, of 6 bytes each, that are linked in this order."""
    links = [*(8 + 6 * place for place in directories), 0]
    data = bytearray(b"MM\0*" + struct.pack(">I", links[0]) + bytes(6 * (max(directories) + 1)))
    for at, following in itertools.pairwise(links):
        struct.pack_into(">HI", data, at, 0, following)
    return bytes(data)


@pytest.mark.parametrize("options", [{}, {"big_tiff": True}, {"compression": "tiff_lzw"}], ids=str)
def test_every_page_can_be_put_first(options: dict[str, Any]) -> None:
    data = volume(7, **options)
    assert count_pages(io.BytesIO(data)) == 7
    for page in range(7):
        alone = take_page(data, page)
        image, plain = decode_image(alone, FIRST)
        assert (image.shape, plain) == ((6, 5 + page, 3), False)
        assert (image == 20 * page + 1).all()
        assert np.array_equal(decode_mask(alone, FIRST), image[:, :, 0])


def test_a_file_of_one_page_is_a_volume_too() -> None:
    data = volume(1)
    assert count_pages(io.BytesIO(data)) == 1
    assert take_page(data, 0) == data


def test_pages_may_lie_in_any_order_and_of_either_endianness() -> None:
    data = chain(2, 0, 1)
    assert count_pages(io.BytesIO(data)) == 3
    assert [take_page(data, page)[4:8] for page in range(3)] == [struct.pack(">I", at) for at in (20, 8, 14)]


def test_pages_linked_in_a_ring_are_refused() -> None:
    with pytest.raises(ImageError, match="corrupt: TIFF: its pages are linked in a ring"):
        count_pages(io.BytesIO(chain(0, 1)[:-1] + b"\x08"))


def test_more_pages_than_anyone_has_are_refused() -> None:
    with pytest.raises(ImageError, match="too_large: TIFF with more than 65536 pages"):
        count_pages(io.BytesIO(chain(*range(65_537))))


@pytest.mark.parametrize("kept", [5, 9, 30])
def test_a_volume_that_ends_before_its_pages_is_truncated(kept: int) -> None:
    data = volume(3)[:kept]
    with pytest.raises(ImageError, match="truncated: the TIFF ends before byte"):
        count_pages(io.BytesIO(data))
    with pytest.raises(ImageError, match="truncated: the TIFF ends before byte"):
        take_page(data, 2)


def test_a_page_that_is_not_there_is_named() -> None:
    with pytest.raises(ImageError, match="missing_page: the TIFF has no page 3, counted from 0"):
        take_page(volume(3), 3)


def test_other_files_have_no_pages() -> None:
    png = encode(Image.new("L", (4, 4)), "PNG")
    with pytest.raises(ImageError, match="not_an_image: not a TIFF file: it starts with"):
        count_pages(io.BytesIO(png))
    with pytest.raises(ImageError, match="not_an_image: not a TIFF file, of which page 1 was planned"):
        take_page(png, 1)
