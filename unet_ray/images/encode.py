"""Our own encodings: lossless, and decoded back exactly, but for pictures that are only looked at."""

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

MaskEncoding = Literal["raw", "png"]


def encode_image(image: NDArray[np.uint8]) -> bytes:
    """Encode an ``(H, W, 3)`` uint8 RGB image as PNG."""
    return _png(np.ascontiguousarray(image[:, :, ::-1]))


def encode_jpeg(image: NDArray[np.uint8], quality: int) -> bytes:
    """Encode an ``(H, W, 3)`` uint8 RGB image as JPEG, with loss; ``quality`` in 1..100."""
    return cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def encode_mask(mask: NDArray[np.uint8], encoding: MaskEncoding) -> bytes:
    """Encode an ``(H, W)`` uint8 mask as raw rows or as a greyscale PNG."""
    return mask.tobytes() if encoding == "raw" else _png(mask)


def decode_stored_mask(data: bytes, height: int, width: int, encoding: MaskEncoding) -> NDArray[np.uint8]:
    """Decode what `encode_mask` made to ``(height, width)`` uint8; raw masks are read-only views."""
    if encoding == "raw":
        return np.frombuffer(data, np.uint8).reshape(height, width)
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE), np.uint8)


def _png(pixels: NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()
