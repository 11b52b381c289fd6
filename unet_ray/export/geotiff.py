"""GeoTIFF (OGC 19-008r4): class ids that lie on the ground where their photo does.

What places the pixels of a TIFF are six tags. They are handed on as they are: the mask has the pixels of the photo.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, TiffImagePlugin

from unet_ray.datasets.frames import fetch_file
from unet_ray.errors import ImageError
from unet_ray.export.frames import Frame
from unet_ray.export.sink import Sink, Write
from unet_ray.images import header
from unet_ray.images.video import is_video

_GEO_TAGS = (33550, 33922, 34264, 34735, 34736, 34737)
"""Pixel scale, tie points, transformation, directory of keys, their numbers and their texts."""
_ORIENTATION_TAG = 274


@contextmanager
def geotiff(sink: Sink) -> Iterator[Write]:
    """Write TIFFs of class ids, with the georeference of the frames that have one; the others are counted."""

    def write(frame: Frame) -> None:
        tags = _read_tags(frame)
        buffer = io.BytesIO()
        Image.fromarray(frame.mask).save(buffer, "TIFF", compression="tiff_adobe_deflate", tiffinfo=tags)
        sink.put(f"{frame.name}.tif", buffer.getvalue())
        sink.enter_frame(frame, f"{frame.name}.tif")
        sink.unreferenced += not len(tags)

    yield write


def _read_tags(frame: Frame) -> TiffImagePlugin.ImageFileDirectory_v2:
    """Return the tags that place a frame; none where it is no TIFF, or where its pixels are not those of the mask.

    Raises:
        ImageError: As `fetch_file`, and what is wrong with a TIFF.
    """
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    planned = frame.read_plan()
    if is_video(planned["image_uri"]):
        return tags
    data = fetch_file(planned, "image", frame.source.policy)
    if header.kind_of(data) != "TIFF":
        return tags
    header.check_tiff(data)
    try:
        with Image.open(io.BytesIO(data), formats=("TIFF",)) as picture:
            found: TiffImagePlugin.ImageFileDirectory_v2 = picture.tag_v2  # type: ignore[attr-defined]
            if picture.size != frame.mask.shape[::-1] or found.get(_ORIENTATION_TAG, 1) != 1:
                return tags
            for tag in _GEO_TAGS:
                if tag in found:
                    tags.tagtype[tag] = found.tagtype[tag]
                    tags[tag] = found[tag]
    except Exception:  # Pillow's parser raises as it does on broken headers
        raise ImageError("corrupt", "TIFF: the header is broken, or of a kind that is not read") from None
    return tags
