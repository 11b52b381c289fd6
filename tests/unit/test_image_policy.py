"""What the section images decides: frames, transparency, bits, printing colours."""

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.unit.image_files import POLICY, encode, exif, gradient, grey_tiff, palette_of, png_chunk, rotated
from unet_ray.errors import ImageError
from unet_ray.images.decode import decode_image, decode_mask

IMAGE = gradient(24, 32)
GREY = IMAGE[:, :, 0]
IDS = np.arange(12, dtype=np.uint8).reshape(3, 4)
HALF = np.where(np.arange(32) < 16, 0, 255).astype(np.uint8) * np.ones((24, 1), np.uint8)  # the left half is clear


def refusal(data: bytes, **policy: Any) -> ImageError:
    with pytest.raises(ImageError) as caught:
        decode_image(data, replace(POLICY, **policy))
    return caught.value


# Frames


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_the_first_of_several_frames_is_read_where_that_is_asked_for(format: str) -> None:
    first = replace(POLICY, frames="first")
    for pixels in (IMAGE, GREY, GREY.astype(np.uint16) * 257):
        data = encode(pixels, format, save_all=True, append_images=[Image.fromarray(pixels[::-1].copy())])
        image, plain = decode_image(data, first)
        assert np.array_equal(image, decode_image(encode(pixels, format), POLICY)[0])
        assert not plain
        error = refusal(data)
        assert error.code == "multi_frame"
        assert error.message == "more than one frame; split the file, or images.frames: first reads the first"


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_a_mask_of_several_frames_follows_the_same_rule(format: str) -> None:
    for ids in (Image.fromarray(IDS), palette_of(IDS), Image.fromarray(IDS.astype(np.uint16))):
        data = encode(ids, format, save_all=True, append_images=[ids.transpose(Image.Transpose.ROTATE_180)])
        with pytest.raises(ImageError, match="multi_frame"):
            decode_mask(data, POLICY)
        assert np.array_equal(decode_mask(data, replace(POLICY, frames="first")), IDS)


# Transparency


@pytest.mark.parametrize(
    "data",
    [
        encode(np.dstack([IMAGE, HALF]), "PNG"),
        encode(np.dstack([IMAGE, HALF]), "TIFF"),
        cv2.imencode(".png", np.dstack([IMAGE[:, :, ::-1], HALF]).astype(np.uint16) * 257)[1].tobytes(),
    ],
    ids=["PNG", "TIFF", "PNG of 16 bits"],
)
def test_a_transparent_image_is_dropped_laid_on_a_colour_or_rejected(data: bytes) -> None:
    assert np.array_equal(decode_image(data, POLICY)[0], IMAGE)
    laid, plain = decode_image(data, replace(POLICY, alpha=(255, 0, 9)))
    assert not plain
    assert np.array_equal(laid[:, 16:], IMAGE[:, 16:])
    assert (laid[:, :16] == (255, 0, 9)).all()
    error = refusal(data, alpha="reject")
    assert error.code == "alpha"
    assert error.message == "the image is transparent; images.alpha: drop, or a colour to lay it on, reads it"


def test_half_transparent_pixels_are_mixed_with_the_colour() -> None:
    data = encode(Image.new("RGBA", (4, 3), (200, 100, 0, 128)), "PNG")
    laid, _ = decode_image(data, replace(POLICY, alpha=(0, 0, 200)))
    assert np.abs(laid.astype(int) - (100, 50, 100)).max() <= 1


def test_one_transparent_colour_or_palette_entry_is_transparency_too() -> None:
    colours = [255, 0, 0, 1, 2, 3, 0, 0, 255]
    palette = encode(palette_of(IDS % 3, colours), "PNG", transparency=1)
    laid, _ = decode_image(palette, replace(POLICY, alpha=(7, 8, 9)))
    assert np.array_equal(laid, np.array([[255, 0, 0], [7, 8, 9], [0, 0, 255]])[IDS % 3])
    colour = encode(Image.new("RGB", (4, 3), (1, 2, 3)), "PNG", transparency=(1, 2, 3))
    assert (decode_image(colour, replace(POLICY, alpha=(7, 8, 9)))[0] == (7, 8, 9)).all()
    assert (decode_image(colour, POLICY)[0] == (1, 2, 3)).all()
    for data in (palette, colour):
        assert refusal(data, alpha="reject").code == "alpha"


def test_one_transparent_colour_of_16_bits_is_not_laid_on_anything() -> None:
    data = encode(IDS.astype(np.uint16), "PNG")
    late = data.replace(data[33:], png_chunk(b"tRNS", b"\0\1") + data[33:])
    assert decode_image(late, POLICY)[0].shape == (3, 4, 3)
    assert refusal(late, alpha=(0, 0, 0)).code == "unsupported_mode"


def test_an_opaque_image_is_the_same_under_every_rule() -> None:
    data = encode(IMAGE, "PNG")
    for alpha in ("drop", "reject", (255, 255, 255)):
        image, plain = decode_image(data, replace(POLICY, alpha=alpha))
        assert plain
        assert np.array_equal(image, IMAGE)


def test_a_transparent_mask_keeps_its_ids_under_every_rule() -> None:
    data = encode(Image.fromarray(np.dstack([IDS, np.zeros_like(IDS)])), "PNG")
    for alpha in ("drop", "reject", (255, 255, 255)):
        assert np.array_equal(decode_mask(data, replace(POLICY, alpha=alpha)), IDS)


def test_a_turned_transparent_image_is_laid_on_the_colour_upright() -> None:
    data = encode(rotated(np.dstack([IMAGE, HALF]), 6), "PNG", exif=exif(6))
    laid, _ = decode_image(data, replace(POLICY, alpha=(1, 2, 3)))
    assert np.array_equal(laid[:, 16:], IMAGE[:, 16:])
    assert (laid[:, :16] == (1, 2, 3)).all()


# Bits


@pytest.mark.parametrize(
    ("data", "bits"),
    [
        (encode(GREY.astype(np.uint16) * 257, "PNG"), 16),
        (encode(GREY.astype(np.uint16) * 257, "TIFF"), 16),
        (grey_tiff((GREY.astype(int) * 257).tolist(), 16, photometric=1), 16),
        (grey_tiff((65535 - GREY.astype(int) * 257).tolist(), 16, photometric=0), 16),
        (grey_tiff((GREY.astype(int) * 16 + 15).tolist(), 12, photometric=1), 12),
        (cv2.imencode(".png", np.dstack([GREY] * 3).astype(np.uint16) * 257)[1].tobytes(), 16),
        (cv2.imencode(".tiff", np.dstack([GREY] * 3).astype(np.uint16) * 257)[1].tobytes(), 16),
    ],
    ids=["PNG", "TIFF", "TIFF, 0 black", "TIFF, 0 white", "TIFF of 12 bits", "RGB PNG", "RGB TIFF"],
)
def test_many_bits_are_scaled_to_the_whole_range_of_eight_or_rejected(data: bytes, bits: int) -> None:
    image, _ = decode_image(data, POLICY)
    assert np.array_equal(image, np.dstack([GREY] * 3))
    error = refusal(data, bit_depth="reject")
    assert (error.code, error.message) == ("bit_depth", f"{bits} bits a channel; images.bit_depth: scale makes them 8")


def test_a_mask_of_16_bits_is_read_under_every_rule() -> None:
    ids = IDS.astype(np.uint16) * 5461
    assert np.array_equal(decode_mask(encode(ids, "PNG"), replace(POLICY, bit_depth="reject")), ids)


# Printing colours


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_printing_colours_are_converted_as_pillow_does_or_rejected(format: str) -> None:
    cyan, rest = np.full((3, 4), 255, np.uint8), np.full((3, 4), 64, np.uint8)
    picture = Image.merge("CMYK", [Image.fromarray(plane) for plane in (cyan, rest, rest, rest)])
    data = encode(picture, format)
    image, plain = decode_image(data, POLICY)
    assert not plain
    assert np.abs(image.astype(int) - np.asarray(picture.convert("RGB"))).max() <= 4
    error = refusal(data, cmyk="reject")
    assert (error.code, error.message) == (
        "cmyk",
        "the image has printing colours; images.cmyk: convert makes them RGB",
    )
