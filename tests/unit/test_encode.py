import numpy as np
import pytest

from unet_ray.images.decode import decode_plain
from unet_ray.images.encode import MaskEncoding, decode_stored_mask, encode_image, encode_mask

MASK = np.array([[0, 1, 255], [7, 254, 128]], np.uint8)


def test_an_encoded_image_is_a_png_in_rgb_order() -> None:
    image = np.array([[[255, 0, 0], [1, 2, 3]]], np.uint8)
    data = encode_image(image)
    assert data.startswith(b"\x89PNG")
    assert decode_plain(data).tolist() == image.tolist()


@pytest.mark.parametrize("encoding", ["raw", "png"])
def test_a_mask_comes_back_exactly(encoding: MaskEncoding) -> None:
    data = encode_mask(MASK, encoding)
    decoded = decode_stored_mask(data, 2, 3, encoding)
    assert decoded.dtype == np.uint8
    assert decoded.tolist() == MASK.tolist()


@pytest.mark.parametrize("encoding", ["raw", "png"])
def test_a_slice_of_a_mask_is_encoded_as_what_it_shows(encoding: MaskEncoding) -> None:
    wide = np.arange(24, dtype=np.uint8).reshape(4, 6)
    data = encode_mask(wide[:, 1::2], encoding)
    assert decode_stored_mask(data, 4, 3, encoding).tolist() == wide[:, 1::2].tolist()


def test_raw_masks_are_rows_of_bytes() -> None:
    assert encode_mask(MASK, "raw") == bytes([0, 1, 255, 7, 254, 128])


def test_the_same_mask_gives_the_same_png() -> None:
    assert encode_mask(MASK, "png") == encode_mask(MASK.copy(), "png")
