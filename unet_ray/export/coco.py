"""COCO (cocodataset.org, "Data format"): photos, all masks in one JSON as ``pycocotools`` loads it, and panoptic PNGs.

An annotation is all that a frame has of a class, as in COCO's stuff segmentation: a semantic mask tells where a class
is, not how many of it there are. Run lengths keep its holes and its disconnected parts, which polygons lose. Ids of
images, annotations and categories count from 1, since there are tools that take 0 for none.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_ray.export.documents import Document
from unet_ray.export.frames import Frame
from unet_ray.export.run_lengths import count_runs, pack_runs
from unet_ray.export.sink import Sink, Write
from unet_ray.images.encode import encode_image
from unet_ray.labels.classes import ClassMap
from unet_ray.schema import IGNORE_INDEX


@contextmanager
def coco(sink: Sink) -> Iterator[Write]:
    """Write photos and panoptic PNGs, and an entry for each of them and for each class that is in it."""

    def write(frame: Frame) -> None:
        photo, ending = frame.read_photo().encode()
        file, image_id = f"{frame.name}.{ending}", frame.row["row_id"] + 1
        height, width = frame.mask.shape
        sink.put(f"images/{file}", photo)
        sink.put(f"panoptic/{frame.name}.png", _encode_panoptic(frame.mask))
        sink.enter("images", json.dumps({"id": image_id, "file_name": file, "height": height, "width": width}))
        segments = []
        for class_id in np.unique(frame.mask[frame.mask != IGNORE_INDEX]).tolist():
            inside = frame.mask == class_id
            segment = _describe(inside, class_id)
            segments.append({"id": class_id + 1, **segment})
            annotation_id = frame.row["row_id"] * sink.classes.num_classes + class_id + 1
            runs = {"size": [height, width], "counts": pack_runs(count_runs(inside))}
            annotation = {"id": annotation_id, "image_id": image_id, **segment, "segmentation": runs}
            sink.enter("annotations", json.dumps(annotation))
        panoptic = {"image_id": image_id, "file_name": f"{frame.name}.png", "segments_info": segments}
        sink.enter("panoptic", json.dumps(panoptic))
        sink.enter_frame(frame, f"images/{file}")

    yield write


def coco_documents(classes: ClassMap) -> list[Document]:
    """Return the JSON of all run lengths, and that of all panoptic PNGs."""
    categories = [
        {"id": class_id + 1, "name": name, "supercategory": name, "isthing": 0, "color": list(colour)}
        for class_id, (name, colour) in enumerate(zip(classes.classes, classes.palette, strict=True))
    ]
    head = f'{{"info": {{}},\n"categories": {json.dumps(categories, ensure_ascii=False)},\n"images": [\n'
    return [
        Document(
            name=name, sections=((head, "images"), ('\n],\n"annotations": [\n', section)), between=",\n", end="\n]}\n"
        )
        for name, section in (("annotations.json", "annotations"), ("panoptic.json", "panoptic"))
    ]


def _describe(inside: NDArray[np.bool_], class_id: int) -> dict[str, Any]:
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    left, top = int(columns[0]), int(rows[0])
    return {
        "category_id": class_id + 1,
        "area": int(inside.sum()),
        "bbox": [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1],
        "iscrowd": 0,
    }


def _encode_panoptic(mask: NDArray[np.uint8]) -> bytes:
    """Encode segment ids as R + 256 G + 256 ** 2 B: those of classes, 0 without one, need no more than red."""
    pixels = np.zeros((*mask.shape, 3), np.uint8)
    pixels[..., 0] = mask + 1  # 255, ignored, becomes 0
    return encode_image(pixels)
