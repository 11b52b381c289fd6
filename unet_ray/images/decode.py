"""Decoding files from outside: header first, limits before the decoder runs, one stated rule for every odd kind.

Images: PNG, JPEG and TIFF by content, whatever the name says; EXIF orientation applied; palettes and greyscale become
RGB. What else a file may be is the user's choice (`config.ImagesSection`): its size, several frames, transparency, more
than 8 bits, printing colours. Masks: the stored numbers are the class ids, so palettes keep their indices and nothing
is converted. EXIF that does not parse is taken for none.

A flipped bit in a PNG is found by its checksums. JPEGs and most TIFFs have none: a flip there changes pixels silently,
and only the entity tag, which `datasets.frames` holds against the plan, tells that an object changed.

Runs in tasks; pure functions of bytes, raising `ImageError` for whatever is permanently wrong with them.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unet_ray.config_input import ImagesSection
from unet_ray.errors import ImageError
from unet_ray.images import header

_EIGHT_BIT = ("1", "L", "LA", "P", "RGB", "RGBA")
_ORIENTATION_TAG = 0x0112
_PNG_BIT_DEPTH = 24  # offset of the bit depth in the IHDR chunk (PNG specification, 11.2.2)
_BITS_TAG, _PHOTOMETRIC_TAG, _WHITE_IS_ZERO = 258, 262, 0  # TIFF 6.0, section 8
_LOSSY = "the mask is a JPEG, which does not keep ids; store masks as PNG"
_LONGEST_SIDE = 1_000_000  # where libpng and OpenCV stop


@dataclass(frozen=True, slots=True)
class _File:
    """A file whose header was read and held to the policy; ``picture`` is not decoded yet."""

    data: bytes
    picture: Image.Image
    kind: header.Kind
    orientation: int
    animated: bool

    @property
    def mode(self) -> str:
        return self.picture.mode

    @property
    def bits(self) -> int:
        """Bits of one sample as stored, which Pillow's modes do not tell."""
        if self.kind == "TIFF":
            return int(getattr(self.picture, "tag_v2", {}).get(_BITS_TAG, (1,))[0])
        return self.data[_PNG_BIT_DEPTH] if self.kind == "PNG" else 8

    @property
    def turned(self) -> bool:
        """Whether 0 is white."""
        return getattr(self.picture, "tag_v2", {}).get(_PHOTOMETRIC_TAG) == _WHITE_IS_ZERO


def decode_image(data: bytes, policy: ImagesSection) -> tuple[NDArray[np.uint8], bool]:
    """Decode an image to ``(H, W, 3)`` uint8 RGB, upright.

    Returns:
        The image, and whether the file is plain: an RGB or grey PNG or JPEG of one frame without an orientation, which
        `decode_plain` decodes to the same pixels, so that the bytes can be stored as they are.

    Raises:
        ImageError: empty_object, too_large, not_an_image, truncated, corrupt, multi_frame, alpha, bit_depth, cmyk or
            unsupported_mode.
    """
    with _open(data, policy) as file:
        transparent = file.picture.has_transparency_data
        if transparent and policy.alpha == "reject":
            raise ImageError(
                "alpha", "the image is transparent; images.alpha: drop, or a colour to lay it on, reads it"
            )
        if policy.bit_depth == "reject" and file.bits > 8:
            raise ImageError("bit_depth", f"{file.bits} bits a channel; images.bit_depth: scale makes them 8")
        if policy.cmyk == "reject" and file.mode == "CMYK":
            raise ImageError("cmyk", "the image has printing colours; images.cmyk: convert makes them RGB")
        plain = False
        if transparent and not isinstance(policy.alpha, str):
            image = _lay_on(file, policy.alpha)
        elif file.kind != "TIFF" and file.mode in _EIGHT_BIT and not file.animated:
            image = _decode_cv2(file, cv2.IMREAD_COLOR_RGB)
            plain = file.orientation == 1 and file.mode in ("L", "RGB")
        elif file.mode in (*_EIGHT_BIT, "CMYK", "YCbCr"):
            image = np.asarray(_load(file).convert("RGB"))
        elif file.mode.startswith("I;16"):
            grey = (np.asarray(_load(file)) >> (file.bits - 8)).astype(np.uint8)
            image = np.repeat((255 - grey if file.turned else grey)[:, :, None], 3, axis=2)
        else:
            raise ImageError("unsupported_mode", f"{file.kind} with pixels of type {file.mode}; use 8 or 16 bits")
        return _upright(image, file.orientation), plain


def decode_mask(data: bytes, policy: ImagesSection) -> NDArray[np.uint16]:
    """Decode a mask to ``(H, W)`` uint16 class ids, upright, exactly as stored.

    Palette files give their indices; colour files are accepted only when all channels are equal. Of the policy, a mask
    is held to the limits and the frames.

    Raises:
        ImageError: empty_object, too_large, not_an_image, truncated, corrupt, multi_frame, unsupported_mode,
            lossy_mask for a JPEG, and colour_mask for a mask of colours.
    """
    with _open(data, policy) as file:
        if file.kind == "JPEG":
            raise ImageError("lossy_mask", _LOSSY)
        if file.kind == "PNG" and file.mode == "L" and file.bits == 8 and not file.animated:
            ids = _decode_cv2(file, cv2.IMREAD_GRAYSCALE)
        elif file.mode in ("1", "L"):
            ids = _stored_grey(file)
        elif file.mode == "P" or file.mode.startswith("I;16"):
            ids = np.asarray(_load(file))
        elif file.mode in ("LA", "RGB", "RGBA") and file.bits == 8:
            ids = np.asarray(_load(file).convert("RGB"))
            if not (ids == ids[:, :, :1]).all():
                raise ImageError("colour_mask", "the mask holds colours, not class ids; convert it to ids first")
            ids = ids[:, :, 0]
        else:
            raise ImageError(
                "unsupported_mode",
                f"{file.kind} mask with {file.bits}-bit pixels of type {file.mode}; use grey ids in 8 or 16 bits",
            )
        return _upright(ids.astype(np.uint16), file.orientation)


def decode_mask_colours(data: bytes, policy: ImagesSection, *, exact: bool = False) -> NDArray[np.uint8]:
    """Decode a mask to ``(H, W, 3)`` uint8 RGB, upright; palettes become colours, transparency is dropped.

    With ``exact``, the channels hold ids: files whose numbers would come out changed are refused.

    Raises:
        ImageError: As `decode_image`, but never alpha; with ``exact`` also lossy_mask for a JPEG, and unsupported_mode
            for more than 8 bits a channel.
    """
    if exact:
        with _open(data, policy) as file:
            if file.kind == "JPEG":
                raise ImageError("lossy_mask", _LOSSY)
            if file.bits > 8:
                raise ImageError("unsupported_mode", f"{file.bits} bits a channel; store ids in channels of 8 bits")
    return decode_image(data, replace(policy, alpha="drop"))[0]


def decode_plain(data: bytes) -> NDArray[np.uint8]:
    """Decode a file that a prepared dataset holds, known to be plain, to ``(H, W, 3)`` uint8 RGB."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise ImageError("corrupt", "a stored image no longer decodes; run `unet-ray verify` on the dataset")
    return np.asarray(image, np.uint8)


@contextmanager
def _open(data: bytes, policy: ImagesSection) -> Iterator[_File]:
    """Read the header of a file, and hold it to the policy before anything is decoded."""
    if not data:
        raise ImageError("empty_object", "the file has 0 bytes")
    if len(data) > policy.max_bytes:
        raise ImageError("too_large", f"{len(data)} bytes, images.max_bytes is {policy.max_bytes}")
    kind = header.kind_of(data)
    if kind is None:
        raise ImageError("not_an_image", f"not a PNG, JPEG or TIFF file: it starts with {data[:16]!r}")
    exif = b""
    if kind == "PNG":
        exif = header.check_png(data)
    elif kind == "JPEG":
        header.check_jpeg(data)
    else:
        header.check_tiff(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = Image.open(io.BytesIO(data), formats=(kind,))
            orientation = _orientation(picture, kind, exif)
    except Image.DecompressionBombError as error:
        raise ImageError("too_large", f"{error}; images.max_pixels is {policy.max_pixels}") from None
    except Exception:  # Pillow's parsers raise SyntaxError, struct.error, EOFError... on broken headers
        raise ImageError("corrupt", f"{kind}: the header is broken, or of a kind that is not read") from None
    with picture:
        width, height = picture.size
        if width * height > policy.max_pixels:
            raise ImageError("too_large", f"{width} x {height} px, images.max_pixels is {policy.max_pixels}")
        if max(width, height) > _LONGEST_SIDE:
            raise ImageError("too_large", f"{width} x {height} px, a side has at most {_LONGEST_SIDE}")
        if kind == "JPEG":
            header.check_jpeg_size(data, width, height, "progressive" in picture.info)
        animated = kind != "JPEG" and getattr(picture, "is_animated", False)
        if animated and policy.frames == "reject":
            raise ImageError(
                "multi_frame", "more than one frame; split the file, or images.frames: first reads the first"
            )
        yield _File(data, picture, kind, orientation, animated)


def _decode_cv2(file: _File, flag: int) -> NDArray[np.uint8]:
    try:
        pixels = cv2.imdecode(np.frombuffer(file.data, np.uint8), flag | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise ImageError("corrupt", f"{file.kind}: the decoder failed: {_short(error)}") from None
    if pixels is None:
        raise ImageError("corrupt", f"{file.kind}: the pixels do not decode")
    return np.asarray(pixels, np.uint8)


def _load(file: _File) -> Image.Image:
    if file.kind == "PNG":
        header.check_png_sums(file.data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            file.picture.load()
    except Exception as error:
        raise ImageError("corrupt", f"{file.kind}: {_short(error)}") from None
    return file.picture


def _lay_on(file: _File, colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    if file.bits > 8 and file.mode not in ("LA", "RGBA"):
        raise ImageError(
            "unsupported_mode",
            f"{file.kind} of {file.bits} bits where one colour is transparent; give it an alpha channel",
        )
    picture = _load(file).convert("RGBA")
    return np.asarray(Image.alpha_composite(Image.new("RGBA", picture.size, colour), picture).convert("RGB"))


def _stored_grey(file: _File) -> NDArray[np.uint8]:
    """Return the numbers of a grey file: Pillow stretches them to 0..255 and turns those of TIFFs where 0 is white."""
    top = 2**file.bits - 1
    grey = np.asarray(_load(file).convert("L"), np.uint8) // np.uint8(255 // top)
    return top - grey if file.turned else grey


def _orientation(picture: Image.Image, kind: header.Kind, png_exif: bytes) -> int:
    """Return the EXIF orientation still to undo, 1 to 8; 1 where there is none."""
    if kind == "TIFF":
        return 1  # Pillow turns TIFFs upright itself
    try:
        exif = Image.Exif()
        exif.load(png_exif if kind == "PNG" else picture.info.get("exif", b""))
        orientation = exif.get(_ORIENTATION_TAG, 1)
    except Exception:  # Pillow's parser raises as it does on broken headers
        return 1
    return orientation if orientation in range(1, 9) else 1


def _upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Undo an EXIF orientation, 1 to 8 (Exif 2.32, tag 0x0112)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
