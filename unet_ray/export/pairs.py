"""Formats of photos with masks that a person corrects, and that come back as a dataset: list, VOC and CVAT.

All have masks of class ids that show a colour for each class, ``list.csv`` (``data.layout: list``), and
``prepare.yaml``, which prepares what became of them. That reads colours: they stay what they are in a tool that saves
without a palette, as CVAT does, and black, which is left where somebody erased, is ignored.

The folders of PASCAL VOC are those of its development kit (host.robots.ox.ac.uk/pascal/VOC/voc2012), the archives are
CVAT's "Segmentation mask 1.1" (docs.cvat.ai, "Segmentation Mask"). CVAT knows a class by its colour or, in masks of one
channel, by its line in ``labelmap.txt``: here either tells the class_id. It takes the masks of a task all at once, so a
task is a shard: an archive of photos and one of masks, whose names match.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import yaml

from unet_ray.datasets.splits import SPLITS
from unet_ray.errors import ConfigError
from unet_ray.export.colours import BLACK, distinct_palette, voc_colours
from unet_ray.export.documents import Document, csv_line
from unet_ray.export.frames import Frame
from unet_ray.export.pictures import encode_palette
from unet_ray.export.sink import Sink, Write
from unet_ray.labels.classes import ClassMap

Put = Callable[[str, bytes], None]

_LIST = Document(name="list.csv", sections=((csv_line(["image", "mask", "split", "group", "frame"]), "list"),))
_NO_SPLIT = "default"


@contextmanager
def list_pairs(sink: Sink) -> Iterator[Write]:
    """Write the photos, as they were segmented, and masks."""

    def write(frame: Frame) -> None:
        photo, ending = frame.read_photo().encode()
        image, mask = f"images/{frame.name}.{ending}", f"masks/{frame.name}.png"
        sink.put(image, photo)
        sink.put(mask, encode_palette(frame.mask, distinct_palette(sink.classes)))
        _enter(sink, frame, image, mask)

    yield write


@contextmanager
def voc(sink: Sink) -> Iterator[Write]:
    """Write the folders of PASCAL VOC, where photos are JPEGs, and a list for each split."""

    def write(frame: Frame) -> None:
        image = f"JPEGImages/{frame.name}.jpg"
        sink.put(image, frame.read_photo().encode_jpeg())
        mask = _put_masks(sink.put, frame)
        split = frame.row["split"]
        sink.enter(split if split in SPLITS else _NO_SPLIT, f"{frame.name}\n")
        _enter(sink, frame, image, mask)

    yield write


@contextmanager
def cvat(sink: Sink) -> Iterator[Write]:
    """Write an archive of photos and one of masks, as they were segmented."""
    names: list[str] = []
    with sink.archive("photos") as put_photo, sink.archive("masks") as put_mask:

        def write(frame: Frame) -> None:
            photo, ending = frame.read_photo().encode()
            image = f"{frame.name}.{ending}"
            put_photo(image, photo)
            names.append(f"{frame.name}\n")
            _enter(sink, frame, image, _put_masks(put_mask, frame))

        yield write
        put_mask("ImageSets/Segmentation/default.txt", "".join(names).encode())
        put_mask("labelmap.txt", _labelmap(sink.classes))


def list_documents(classes: ClassMap) -> list[Document]:
    """Return the list of pairs."""
    return [_LIST]


def voc_documents(classes: ClassMap) -> list[Document]:
    """Return the list of pairs, and those of the names of each split."""
    return [
        _LIST,
        *(
            Document(name=f"ImageSets/Segmentation/{split}.txt", sections=(("", split),))
            for split in (*SPLITS, _NO_SPLIT)
        ),
    ]


def list_files(classes: ClassMap, folder: str) -> dict[str, bytes]:
    """Return the configuration that prepares what comes back."""
    return {"prepare.yaml": yaml.safe_dump(_way_back(classes, folder), sort_keys=False, allow_unicode=True).encode()}


def voc_files(classes: ClassMap, folder: str) -> dict[str, bytes]:
    """Return the same, and the names and colours of the classes.

    Raises:
        ConfigError: A name cannot stand in ``labelmap.txt``.
    """
    return list_files(classes, folder) | {"labelmap.txt": _labelmap(classes)}


def cvat_files(classes: ClassMap, folder: str) -> dict[str, bytes]:
    """Return the same, and the labels that a task is created with.

    Raises:
        ConfigError: As `voc_files`.
    """
    labels = [
        {"name": name, "color": "#{:02x}{:02x}{:02x}".format(*colour), "attributes": []}
        for name, colour in zip(classes.classes, distinct_palette(classes), strict=True)
    ]
    data = json.dumps(labels, ensure_ascii=False, indent=1).encode()
    return voc_files(classes, folder) | {"labels.json": data}


def _put_masks(put: Put, frame: Frame) -> str:
    """Write the classes of a frame, and the same as objects, one for each class; return the name of the first file."""
    name = f"SegmentationClass/{frame.name}.png"
    put(name, encode_palette(frame.mask, distinct_palette(frame.source.classes)))
    put(f"SegmentationObject/{frame.name}.png", encode_palette(frame.mask + 1, voc_colours().tolist()))
    return name


def _enter(sink: Sink, frame: Frame, image: str, mask: str) -> None:
    sink.enter("list", csv_line([image, mask, *(frame.row[name] for name in ("split", "group", "frame"))]))
    sink.enter_frame(frame, mask)


def _labelmap(classes: ClassMap) -> bytes:
    palette = distinct_palette(classes)
    lines = ["# label:color_rgb:parts:actions"]
    for name, colour in zip(classes.classes, palette, strict=True):
        if ":" in name or name.startswith("#") or name != name.strip():
            raise ConfigError(
                f"--as: labelmap.txt cannot hold the class {name!r}: a name there has no ':', no '#' in front and no "
                "space around it; rename the class (labels.classes), or take --as list"
            )
        lines.append(f"{name}:{','.join(map(str, colour))}::")
    if BLACK not in palette and "background" not in classes.classes:
        lines.append("background:0,0,0::")
    return ("\n".join(lines) + "\n").encode()


def _way_back(classes: ClassMap, folder: str) -> dict[str, Any]:
    palette = distinct_palette(classes)
    labels: dict[str, Any] = {
        "classes": list(classes.classes),
        "palette": [list(colour) for colour in palette],
        "scheme": "colours",
    }
    if BLACK not in palette:
        labels["ignore_colours"] = [list(BLACK)]
    if classes.background is not None:
        labels["background"] = classes.classes[classes.background]
    return {"run": {"name": "corrected"}, "data": {"layout": "list", "root": f"{folder}/list.csv"}, "labels": labels}
