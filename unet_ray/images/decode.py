"""Decoding files from outside: header first, limits before the decoder runs, one stated rule for every odd kind.

The policy, for images: PNG, JPEG and TIFF by content, whatever the name says; at most `Limits.pixels`; one frame;
EXIF orientation applied; alpha dropped; palettes, greyscale and CMYK become RGB; 16 bits become 8 (the high byte).
For masks: the stored numbers are the class ids, so palettes keep their indices and nothing is converted.
EXIF that does not parse is taken for none.

Runs in tasks; pure functions of bytes, raising `ImageError` for whatever is permanently wrong with them.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unet_ray.errors import ImageError

_STARTS = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG", b"II*\0": "TIFF", b"MM\0*": "TIFF"}
_EIGHT_BIT = ("1", "L", "LA", "P", "RGB", "RGBA")
_ORIENTATION_TAG = 0x0112
_PNG_BIT_DEPTH = 24  # offset of the bit depth in the IHDR chunk (PNG specification, 11.2.2)
_BITS_TAG, _PHOTOMETRIC_TAG, _WHITE_IS_ZERO = 258, 262, 0  # TIFF 6.0, section 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What is refused before a decoder sees it."""

    pixels: int
    bytes: int


def decode_image(data: bytes, limits: Limits) -> tuple[NDArray[np.uint8], bool]:
    """Decode an image to ``(H, W, 3)`` uint8 RGB, upright.

    Returns:
        The image, and whether the file is plain: an RGB or grey PNG or JPEG without an orientation, which
        `decode_plain` decodes to the same pixels, so that the bytes can be stored as they are.

    Raises:
        ImageError: empty_object, too_large, not_an_image, truncated, corrupt, multi_frame or unsupported_mode.
    """
    with _header(data, limits) as header:
        orientation = _orientation(header, data)
        if header.format in ("PNG", "JPEG") and header.mode in _EIGHT_BIT:
            image = _decode_cv2(data, header, cv2.IMREAD_COLOR_RGB)
            plain = orientation == 1 and header.mode in ("L", "RGB")
        elif header.mode in (*_EIGHT_BIT, "CMYK", "YCbCr"):
            image, plain = np.asarray(_load(header, data).convert("RGB")), False
        elif header.mode.startswith("I;16"):
            grey = (np.asarray(_load(header, data)) >> 8).astype(np.uint8)
            image, plain = np.repeat(grey[:, :, None], 3, axis=2), False
        else:
            raise ImageError("unsupported_mode", f"{header.format} with pixels of type {header.mode}; use 8 or 16 bits")
        return _upright(image, orientation), plain


def decode_mask(data: bytes, limits: Limits) -> NDArray[np.uint16]:
    """Decode a mask to ``(H, W)`` uint16 class ids, upright, exactly as stored.

    Palette files give their indices; colour files are accepted only when all channels are equal.

    Raises:
        ImageError: As `decode_image`, lossy_mask for a JPEG, and colour_mask for a mask of colours.
    """
    with _header(data, limits) as header:
        if header.format in ("JPEG", "MPO"):
            raise ImageError("lossy_mask", "the mask is a JPEG, which does not keep ids; store masks as PNG")
        orientation, bits = _orientation(header, data), _bits(header, data)
        if header.format == "PNG" and header.mode == "L" and bits == 8:
            ids = _decode_cv2(data, header, cv2.IMREAD_UNCHANGED)
        elif header.mode in ("1", "L"):
            ids = _stored_grey(_load(header, data), bits)
        elif header.mode == "P" or header.mode.startswith("I;16"):
            ids = np.asarray(_load(header, data))
        elif header.mode in ("LA", "RGB", "RGBA") and bits == 8:
            ids = np.asarray(_load(header, data).convert("RGB"))
            if not (ids == ids[:, :, :1]).all():
                raise ImageError("colour_mask", "the mask holds colours, not class ids; convert it to ids first")
            ids = ids[:, :, 0]
        else:
            raise ImageError(
                "unsupported_mode",
                f"{header.format} mask with {bits}-bit pixels of type {header.mode}; use grey ids in 8 or 16 bits",
            )
        return _upright(ids.astype(np.uint16), orientation)


def decode_plain(data: bytes) -> NDArray[np.uint8]:
    """Decode a file that a prepared dataset holds, known to be plain, to ``(H, W, 3)`` uint8 RGB."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise ImageError("corrupt", "a stored image no longer decodes; run `unet-ray verify` on the dataset")
    return np.asarray(image, np.uint8)


@contextmanager
def _header(data: bytes, limits: Limits) -> Iterator[Image.Image]:
    """Open a file without decoding it, and hold it to the limits."""
    if not data:
        raise ImageError("empty_object", "the file has 0 bytes")
    if len(data) > limits.bytes:
        raise ImageError("too_large", f"{len(data)} bytes, data.max_image_bytes is {limits.bytes}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            header = Image.open(io.BytesIO(data), formats=tuple(_STARTS.values()))
            frames = 1 if header.format in ("JPEG", "MPO") else getattr(header, "n_frames", 1)
    except Image.DecompressionBombError as error:
        raise ImageError("too_large", f"{error}; data.max_image_pixels is {limits.pixels}") from None
    except Exception:  # Pillow's parsers raise SyntaxError, struct.error, EOFError... on broken headers
        kind = next((kind for start, kind in _STARTS.items() if data.startswith(start)), None)
        if kind is None:
            raise ImageError("not_an_image", f"not a PNG, JPEG or TIFF file: it starts with {data[:16]!r}") from None
        raise _broken(data, kind, "the header is broken, or of a kind that is not read") from None
    with header:
        if header.width * header.height > limits.pixels:
            raise ImageError(
                "too_large", f"{header.width} x {header.height} px, data.max_image_pixels is {limits.pixels}"
            )
        if frames > 1:
            raise ImageError("multi_frame", f"the file holds {frames} frames; split it into one file per frame")
        yield header


def _decode_cv2(data: bytes, header: Image.Image, flag: int) -> NDArray[np.uint8]:
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flag | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise ImageError("corrupt", f"the decoder failed: {_short(error)}") from None
    if pixels is None:
        raise _broken(data, header.format, "the pixels do not decode")
    return np.asarray(pixels, np.uint8)


def _load(header: Image.Image, data: bytes) -> Image.Image:
    try:
        header.load()
    except Exception as error:
        raise _broken(data, header.format, _short(error)) from None
    return header


def _broken(data: bytes, kind: str | None, cause: str) -> ImageError:
    end = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}.get(kind or "", b"")
    if end not in data[-64:]:
        return ImageError("truncated", f"the {kind} ends after {len(data)} bytes without its end mark")
    return ImageError("corrupt", f"{kind}: {cause}")


def _bits(header: Image.Image, data: bytes) -> int:
    """Return the bits of one sample of a PNG or TIFF as stored, which Pillow's modes do not tell."""
    if header.format == "PNG":
        return data[_PNG_BIT_DEPTH]
    return int(getattr(header, "tag_v2", {}).get(_BITS_TAG, (1,))[0])


def _stored_grey(header: Image.Image, bits: int) -> NDArray[np.uint8]:
    """Return the numbers of a grey file: Pillow stretches them to 0..255 and turns those of TIFFs where 0 is white."""
    top = 2**bits - 1
    grey = np.asarray(header.convert("L"), np.uint8) // np.uint8(255 // top)
    turned = getattr(header, "tag_v2", {}).get(_PHOTOMETRIC_TAG) == _WHITE_IS_ZERO
    return top - grey if turned else grey


def _orientation(header: Image.Image, data: bytes) -> int:
    """Return the EXIF orientation still to undo, 1 to 8; 1 where there is none."""
    if header.format == "TIFF":
        return 1  # Pillow turns TIFFs upright itself
    if header.format == "PNG" and "exif" not in header.info:
        if b"eXIf" not in data:
            return 1  # or Pillow would decode the pixels to look behind them
        _load(header, data)
    try:
        orientation = header.getexif().get(_ORIENTATION_TAG, 1)
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
