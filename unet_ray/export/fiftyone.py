"""FiftyOne: ``data/`` and ``labels/``, which it reads as ``ImageSegmentationDirectory``.

(docs.voxel51.com, user guide, "Importing datasets": a mask has the name of its photo, and its pixel values are those of
the dataset's mask targets.) Value 0 is shown as nothing, so classes count from 1. Masks stay files, since a document of
its database has at most 16 MB.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from unet_ray.export.frames import Frame
from unet_ray.export.sink import Sink, Write
from unet_ray.images.encode import encode_mask


@contextmanager
def fiftyone(sink: Sink) -> Iterator[Write]:
    """Write photos, and masks of class_id + 1, 0 where there is no class."""

    def write(frame: Frame) -> None:
        photo, ending = frame.read_photo().encode()
        sink.put(f"data/{frame.name}.{ending}", photo)
        sink.put(f"labels/{frame.name}.png", encode_mask(frame.mask + 1, "png"))  # 255, ignored, becomes 0
        sink.enter_frame(frame, f"data/{frame.name}.{ending}")

    yield write
