"""Small image files, made in memory."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unet_ray.images.decode import Limits

LIMITS = Limits(pixels=10_000, bytes=100_000)


def gradient(height: int, width: int) -> NDArray[np.uint8]:
    """Return an ``(height, width, 3)`` uint8 image that looks different from every side, smooth enough for JPEG."""
    rows, columns = np.mgrid[:height, :width]
    planes = [255 * rows / height, 255 * columns / width, 128 * (rows / height + columns / width)]
    return np.stack(planes, axis=2).astype(np.uint8)


def encode(picture: Image.Image | NDArray[Any], format: str, **options: Any) -> bytes:
    """Return an image file as Pillow writes it."""
    sink = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(sink, format, **options)
    return sink.getvalue()
