"""Formats of one picture a frame: class ids, class colours, colours over the photo."""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unet_ray.export.frames import Frame
from unet_ray.export.sink import Sink, Write
from unet_ray.images.encode import encode_jpeg, encode_mask
from unet_ray.images.paint import blend

_JPEG_QUALITY = 90


@contextmanager
def index(sink: Sink) -> Iterator[Write]:
    """Write greyscale PNGs of class ids."""
    yield _write_pictures(sink, lambda frame: encode_mask(frame.mask, "png"), "png")


@contextmanager
def palette(sink: Sink) -> Iterator[Write]:
    """Write PNGs of class ids that show the colours of the classes."""
    yield _write_pictures(sink, lambda frame: encode_palette(frame.mask, sink.classes.palette), "png")


@contextmanager
def overlay(sink: Sink) -> Iterator[Write]:
    """Write JPEGs of the photos, half covered by the colours of the classes."""

    def draw(frame: Frame) -> bytes:
        return encode_jpeg(blend(frame.read_photo().image, frame.mask, sink.classes.palette), _JPEG_QUALITY)

    yield _write_pictures(sink, draw, "jpg")


def encode_palette(mask: NDArray[np.uint8], palette: Sequence[Sequence[int]]) -> bytes:
    """Encode an ``(H, W)`` uint8 mask as a PNG of its very ids, with a colour for each."""
    buffer = io.BytesIO()
    picture = Image.fromarray(mask)
    picture.putpalette([channel for colour in palette for channel in colour])
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _write_pictures(sink: Sink, draw: Callable[[Frame], bytes], ending: str) -> Write:
    """Return what writes a file for each frame: what ``draw`` makes of it."""

    def write(frame: Frame) -> None:
        name = f"{frame.name}.{ending}"
        sink.put(name, draw(frame))
        sink.enter_frame(frame, name)

    return write
