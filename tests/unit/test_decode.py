import struct
import zlib
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.unit.image_files import POLICY, encode, exif, gradient, grey_png, grey_tiff, palette_of, png_chunk, rotated
from unet_ray.config_input import ImagesSection
from unet_ray.errors import ImageError
from unet_ray.images.decode import decode_image, decode_mask, decode_plain

IMAGE = gradient(24, 32)
GREY = IMAGE[:, :, 0]
IDS = np.arange(12, dtype=np.uint8).reshape(3, 4)
NOISE = np.random.default_rng(0).integers(256, size=(24, 32, 3), dtype=np.uint8)
PNGS = {
    "RGB": encode(NOISE, "PNG"),
    "grey": encode(NOISE[:, :, 0], "PNG"),
    "palette": encode(Image.fromarray(NOISE).quantize(20), "PNG"),
}


def code_of(decode: Any, data: bytes, policy: ImagesSection = POLICY) -> str:
    with pytest.raises(ImageError) as caught:
        decode(data, policy)
    assert "\n" not in caught.value.message
    assert "0x" not in caught.value.message.replace("\\x", "")  # an address would differ from run to run
    return caught.value.code


# Images: what is read


@pytest.mark.parametrize(
    ("data", "plain"),
    [
        (encode(IMAGE, "PNG"), True),
        (encode(IMAGE, "TIFF"), False),
        (encode(IMAGE, "TIFF", big_tiff=True), False),
        (encode(np.dstack([IMAGE, GREY]), "PNG"), False),
        (encode(np.dstack([IMAGE, np.zeros_like(GREY)]), "PNG"), False),
        (cv2.imencode(".png", IMAGE[:, :, ::-1].astype(np.uint16) * 256 + 200)[1].tobytes(), True),
    ],
    ids=["PNG", "TIFF", "BigTIFF", "alpha", "transparent", "16 bits a channel"],
)
def test_a_lossless_colour_file_gives_its_pixels(data: bytes, plain: bool) -> None:
    image, found_plain = decode_image(data, POLICY)
    assert image.dtype == np.uint8
    assert np.array_equal(image, IMAGE)
    assert found_plain is plain


def test_a_palette_gives_its_colours() -> None:
    colours = np.array([[255, 0, 0], [1, 2, 3], [0, 0, 255]])
    image, plain = decode_image(encode(palette_of(IDS % 3, colours.ravel().tolist()), "PNG"), POLICY)
    assert np.array_equal(image, colours[IDS % 3])
    assert not plain


@pytest.mark.parametrize(
    ("data", "plain"),
    [
        (encode(GREY, "PNG"), True),
        (encode(GREY, "TIFF"), False),
        (encode(Image.fromarray(np.dstack([GREY, 255 - GREY])), "PNG"), False),
        (encode(GREY.astype(np.uint16) * 256 + 255, "PNG"), False),
        (encode(GREY.astype(np.uint16) * 256 + 255, "TIFF"), False),
        (grey_tiff((255 - GREY).tolist(), 8, photometric=0), False),
    ],
    ids=["PNG", "TIFF", "alpha", "16 bits", "TIFF of 16 bits", "TIFF where 0 is white"],
)
def test_a_grey_file_gives_three_equal_channels(data: bytes, plain: bool) -> None:
    image, found_plain = decode_image(data, POLICY)
    assert np.array_equal(image, np.repeat(GREY[:, :, None], 3, axis=2))
    assert found_plain is plain


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_a_jpeg_gives_about_its_pixels_and_is_plain(options: dict[str, Any]) -> None:
    image, plain = decode_image(encode(IMAGE, "JPEG", quality=95, **options), POLICY)
    assert np.abs(image.astype(int) - IMAGE).mean() < 2
    assert plain


def test_a_cmyk_jpeg_gives_its_colours() -> None:
    image, plain = decode_image(encode(Image.new("CMYK", (4, 3), (0, 255, 255, 0)), "JPEG"), POLICY)
    assert image.shape == (3, 4, 3)
    assert np.abs(image.astype(int) - (255, 0, 0)).max() <= 2
    assert not plain


def test_a_photo_with_a_preview_inside_gives_the_photo() -> None:
    photo, preview = Image.fromarray(IMAGE), Image.fromarray(IMAGE[::2, ::2].copy())
    image, plain = decode_image(encode(photo, "MPO", save_all=True, append_images=[preview], quality=95), POLICY)
    assert np.abs(image.astype(int) - IMAGE).mean() < 2
    assert plain


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_and_its_mask_are_turned_upright(orientation: int, format: str) -> None:
    image, plain = decode_image(encode(rotated(IMAGE, orientation), format, exif=exif(orientation)), POLICY)
    assert np.array_equal(image, IMAGE)
    assert plain is (orientation == 1 and format == "PNG")
    mask = decode_mask(encode(rotated(IDS, orientation), format, exif=exif(orientation)), POLICY)
    assert np.array_equal(mask, IDS)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_is_turned_upright(orientation: int) -> None:
    data = encode(rotated(IMAGE, orientation), "JPEG", quality=95, exif=exif(orientation))
    image, plain = decode_image(data, POLICY)
    assert image.shape == IMAGE.shape
    assert np.abs(image.astype(int) - IMAGE).mean() < 2
    assert plain is (orientation == 1)


def test_an_orientation_that_stands_behind_the_pixels_counts() -> None:
    data = encode(rotated(IMAGE, 6), "PNG")
    end = png_chunk(b"IEND", b"")
    late = data.removesuffix(end) + png_chunk(b"eXIf", exif(6).removeprefix(b"Exif\0\0")) + end
    assert np.array_equal(decode_image(late, POLICY)[0], IMAGE)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("format", ["PNG", "JPEG"])
@pytest.mark.parametrize("damaged", [b"Exif\0\0garbage!", b"Exif\0\0MM\0*\0\0\xff\xff", exif(9), exif(0)])
def test_exif_that_makes_no_sense_is_taken_for_none(damaged: bytes, format: str) -> None:
    image, plain = decode_image(encode(IMAGE, format, exif=damaged), POLICY)
    assert np.array_equal(image, decode_image(encode(IMAGE, format), POLICY)[0])
    assert plain


@pytest.mark.parametrize(
    "data",
    [
        encode(IMAGE, "PNG"),
        encode(IMAGE, "JPEG"),
        encode(IMAGE, "JPEG", exif=exif(1)),
        encode(GREY, "PNG"),
        encode(GREY, "JPEG"),
        grey_png([[0, 1, 2, 3]], 2),
        cv2.imencode(".png", IMAGE.astype(np.uint16) * 257)[1].tobytes(),
    ],
)
def test_a_plain_file_decodes_the_same_when_a_dataset_holds_it(data: bytes) -> None:
    image, plain = decode_image(data, POLICY)
    assert plain
    assert np.array_equal(decode_plain(data), image)


def test_a_stored_image_is_never_turned() -> None:
    stored = rotated(IMAGE, 6)
    for format in ("PNG", "JPEG"):
        assert decode_plain(encode(stored, format, exif=exif(6))).shape == stored.shape


def test_a_stored_image_that_broke_says_how_to_find_out_more() -> None:
    with pytest.raises(ImageError, match="a stored image no longer decodes; run `unet-ray verify`"):
        decode_plain(encode(IMAGE, "PNG")[:100])


# Masks: what is read


@pytest.mark.parametrize(
    "data",
    [
        encode(IDS, "PNG"),
        encode(IDS, "TIFF"),
        encode(palette_of(IDS), "PNG"),
        encode(palette_of(IDS), "TIFF"),
        encode(IDS.astype(np.uint16), "PNG"),
        encode(np.dstack([IDS] * 3), "PNG"),
        encode(np.dstack([IDS, IDS, IDS, 255 - IDS]), "PNG"),
        encode(Image.fromarray(np.dstack([IDS, 255 - IDS])), "PNG"),
        grey_png(IDS.tolist(), 4),
        grey_tiff(IDS.tolist(), 8, photometric=0),
        grey_tiff(IDS.tolist(), 8, photometric=1),
        grey_tiff(IDS.tolist(), 4, photometric=0),
        grey_tiff(IDS.tolist(), 4, photometric=1),
    ],
    ids=[
        *("grey", "TIFF", "palette", "palette TIFF", "16 bits", "equal channels", "equal channels and alpha", "alpha"),
        *("4 bits", "TIFF, 0 white", "TIFF, 0 black", "TIFF of 4 bits, 0 white", "TIFF of 4 bits, 0 black"),
    ],
)
def test_a_mask_gives_the_numbers_it_stores(data: bytes) -> None:
    mask = decode_mask(data, POLICY)
    assert mask.dtype == np.uint16
    assert np.array_equal(mask, IDS)


@pytest.mark.parametrize(("bits", "top"), [(1, 1), (2, 3), (4, 15)])
def test_a_mask_of_few_bits_is_not_stretched(bits: int, top: int) -> None:
    rows = [[value % (top + 1) for value in range(row, row + 16)] for row in range(3)]
    assert decode_mask(grey_png(rows, bits), POLICY).tolist() == rows
    for photometric in (0, 1):
        assert decode_mask(grey_tiff(rows, bits, photometric), POLICY).tolist() == rows


def test_a_mask_of_16_bits_keeps_all_of_them() -> None:
    ids = IDS.astype(np.uint16) * 5461
    for data in (encode(ids, "PNG"), encode(ids, "TIFF"), encode(ids, "TIFF", compression="tiff_lzw")):
        assert np.array_equal(decode_mask(data, POLICY), ids)


def test_a_palette_with_doubled_colours_keeps_its_indices() -> None:
    picture = palette_of(IDS, colours=[9, 9, 9] * 12)
    assert np.array_equal(decode_mask(encode(picture, "PNG"), POLICY), IDS)


# What is refused


@pytest.mark.parametrize("decode", [decode_image, decode_mask])
@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty_object"),
        (b"not an image at all", "not_an_image"),
        (b"\x89PNG", "not_an_image"),
        (encode(GREY, "BMP"), "not_an_image"),
        (encode(GREY, "GIF"), "not_an_image"),
        (encode(GREY, "WEBP"), "not_an_image"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "truncated"),
        (grey_png([[0]], 2).replace(b"IHDR", b"IHDX"), "corrupt"),
        (b"II*\0" + bytes(100), "corrupt"),
        (encode(GREY, "TIFF")[:-500], "truncated"),
        (encode(GREY, "TIFF", save_all=True, append_images=[Image.fromarray(GREY)]), "multi_frame"),
        (encode(GREY, "PNG", save_all=True, append_images=[Image.fromarray(255 - GREY)]), "multi_frame"),
        (encode(GREY.astype(np.int32), "TIFF"), "unsupported_mode"),
        (encode(GREY.astype(np.float32), "TIFF"), "unsupported_mode"),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_kind(decode: Any, data: bytes, code: str) -> None:
    assert code_of(decode, data) == code


@pytest.mark.parametrize("decode", [decode_image, decode_mask])
@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("kind", PNGS)
def test_a_png_that_was_cut_off_is_truncated(kind: str, kept: float, decode: Any) -> None:
    assert code_of(decode, PNGS[kind][: int(len(PNGS[kind]) * kept)]) == "truncated"


@pytest.mark.parametrize("kind", PNGS)
def test_a_png_without_its_end_is_truncated(kind: str) -> None:
    assert code_of(decode_image, PNGS[kind].removesuffix(png_chunk(b"IEND", b""))) == "truncated"


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
@pytest.mark.parametrize("kept", [0.01, 0.3, 0.6, 0.9, 0.99])
def test_a_jpeg_that_was_cut_off_is_truncated_and_not_half_grey(kept: float, options: dict[str, Any]) -> None:
    data = encode(IMAGE, "JPEG", quality=95, **options)
    assert code_of(decode_image, data[: int(len(data) * kept)]) == "truncated"


@pytest.mark.parametrize("kind", PNGS)
def test_a_flipped_bit_in_a_png_is_found(kind: str) -> None:
    data = PNGS[kind].removesuffix(png_chunk(b"IEND", b""))
    for position in range(0, len(data), 5):
        damaged = bytearray(PNGS[kind])
        damaged[position] ^= 4
        assert code_of(decode_image, bytes(damaged)) in ("corrupt", "truncated", "not_an_image", "too_large")


@pytest.mark.parametrize("decode", [decode_image, decode_mask])
def test_the_limits_hold_before_anything_is_decoded(decode: Any) -> None:
    data = encode(IDS, "PNG")
    decode(data, ImagesSection(max_pixels=12, max_bytes=len(data)))
    with pytest.raises(ImageError, match=r"too_large: 4 x 3 px, images\.max_pixels is 11"):
        decode(data, ImagesSection(max_pixels=11, max_bytes=len(data)))
    with pytest.raises(ImageError, match=rf"too_large: {len(data)} bytes, images\.max_bytes is {len(data) - 1}"):
        decode(data, ImagesSection(max_pixels=12, max_bytes=len(data) - 1))


def test_a_side_is_as_long_as_opencv_reads_and_no_longer() -> None:
    wide = replace(POLICY, max_pixels=2_000_000)
    assert decode_image(encode(np.zeros((1, 1_000_000), np.uint8), "PNG"), wide)[0].shape == (1, 1_000_000, 3)
    with pytest.raises(ImageError, match="too_large: 1000001 x 1 px, a side has at most 1000000"):
        decode_image(encode(np.zeros((1, 1_000_001), np.uint8), "PNG"), wide)


def test_a_header_that_promises_billions_of_pixels_is_believed_and_refused() -> None:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 0, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(b"")) + png_chunk(b"IEND", b"")
    assert code_of(decode_image, bomb) == "too_large"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (encode(IMAGE, "PNG"), "colour_mask"),
        (encode(IDS, "JPEG"), "lossy_mask"),
        (encode(IMAGE, "MPO", save_all=True, append_images=[Image.fromarray(IMAGE)]), "lossy_mask"),
        (encode(Image.new("CMYK", (4, 3)), "TIFF"), "unsupported_mode"),
        (cv2.imencode(".png", np.dstack([IDS.astype(np.uint16)] * 3))[1].tobytes(), "unsupported_mode"),
    ],
    ids=["colours", "JPEG", "JPEG with a preview", "CMYK", "three equal channels of 16 bits"],
)
def test_a_file_that_cannot_hold_ids_is_no_mask(data: bytes, code: str) -> None:
    assert code_of(decode_mask, data) == code


def test_messages_say_what_was_found() -> None:
    for data, message in [
        (b"", "the file has 0 bytes"),
        (b"hello, world and more", "not a PNG, JPEG or TIFF file: it starts with b'hello, world and'"),
        (encode(IMAGE, "PNG")[:70], "the PNG ends after 70 bytes, before its end"),
        (b"II*\0" + bytes(100), "TIFF: its directory starts inside the header, at byte 0"),
        (encode(GREY.astype(np.int32), "TIFF"), "TIFF with pixels of type I; use 8 or 16 bits"),
    ]:
        with pytest.raises(ImageError) as caught:
            decode_image(data, POLICY)
        assert caught.value.message == message
