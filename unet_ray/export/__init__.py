"""``unet-ray export``: the masks of predictions in the formats of other tools, and back (docs/exports.md).

A format is a context manager that gives what writes one frame to a `sink.Sink`. A Ray task per shard, or per group for
videos, reads its frames in order and writes them one by one. What is one file for all frames is written in portions by
the tasks and joined by the driver (`documents`), which counts and does no more. Files are named after row_ids.
"""

from typing import Literal, get_args

Kind = Literal[
    "index", "palette", "overlay", "geotiff", "list", "voc", "cvat", "coco", "fiftyone", "video", "video-beside"
]
"""What is exported: a picture for each mask, a dataset of a tool, or a video for each group."""

KINDS: tuple[Kind, ...] = get_args(Kind)
