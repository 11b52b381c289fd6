"""Pictures for a page, as data URIs: photos as JPEG, masks as PNG in their palette, none longer than 480 px."""

import base64
import io
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unet_ray.schema import IGNORE_INDEX

_MAX_SIDE_PX = 480  # twice the width of a picture on the page; keeps a dozen frames below 5 MB


def shrink_image(image: NDArray[np.uint8], most_px: int = _MAX_SIDE_PX) -> NDArray[np.uint8]:
    """Shrink an ``(H, W, 3)`` or ``(H, W)`` uint8 picture to what a page shows, by averaging."""
    return _shrink(image, Image.Resampling.BOX, most_px)


def shrink_mask(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Shrink ``(H, W)`` class ids or ``(H, W, 3)`` colours to what a page shows, inventing none."""
    return _shrink(mask, Image.Resampling.NEAREST, _MAX_SIDE_PX)


def photo_uri(image: NDArray[np.uint8]) -> str:
    """Encode an ``(H, W, 3)`` uint8 RGB picture as JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=85, optimize=True)
    return _data_uri("image/jpeg", buffer)


def drawing_uri(picture: NDArray[np.uint8]) -> str:
    """Encode an ``(H, W, 3)`` uint8 RGB picture as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", optimize=True)
    return _data_uri("image/png", buffer)


def mask_uri(mask: NDArray[np.uint8], palette: Mapping[int, tuple[int, int, int]]) -> str:
    """Encode ``(H, W)`` uint8 ids as PNG in their colours, black where there is none; 255 is transparent."""
    colours = [palette.get(index, (0, 0, 0)) for index in range(256)]
    picture = Image.fromarray(mask)
    picture.putpalette([channel for colour in colours for channel in colour])
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True, transparency=IGNORE_INDEX)
    return _data_uri("image/png", buffer)


def _shrink(pixels: NDArray[np.uint8], resampling: Image.Resampling, most_px: int) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    scale = most_px / max(height, width)
    if scale >= 1:
        return pixels
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(pixels).resize(size, resampling))


def _data_uri(media_type: str, buffer: io.BytesIO) -> str:
    return f"data:{media_type};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
