"""``unet-ray export``: the masks of predictions as picture files, for tools that read no tables.

A Ray task per shard writes its files. A file's name is its row's number, so an export that was cut off is simply
repeated. The driver only counts.
"""

import csv
import functools
import io
import json
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from unet_ray import pipeline, storage
from unet_ray.config_input import ImagesSection
from unet_ray.datasets.frames import read_frame
from unet_ray.errors import ExistsError, ImageError
from unet_ray.faults import translated
from unet_ray.images.encode import decode_stored_mask, encode_mask
from unet_ray.images.paint import blend
from unet_ray.labels.classes import ClassMap
from unet_ray.progress import Meter
from unet_ray.query.run import select_rows
from unet_ray.schema import OK
from unet_ray.table.commit import Progress
from unet_ray.table.plan import Plan, Unit
from unet_ray.table.read import Table, open_predictions

Format = Literal["index", "palette", "overlay"]

_COLUMNS = ("row_id", "image_id", "group", "frame", "status", "pred_mask", "height", "width")
_ENDING = {"index": "png", "palette": "png", "overlay": "jpg"}
_JPEG_QUALITY = 90


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """What `run` wrote: files, and frames that could not be, whose photo is gone or is another by now."""

    folder: str
    files: int
    unreadable: int
    seconds: float = field(compare=False)


def run(uri: str, folder: str, kind: Format, where: str | None) -> Exported:
    """Write a file for each segmented frame, and lists of them. Runs on the driver, with Ray connected.

    ``index`` is a greyscale PNG of class ids, ``palette`` a PNG of the same ids in their colours, ``overlay`` a JPEG of
    the photo half covered by these colours. ``index-<shard>.csv`` tells the image of each file, and ``classes.json``
    names and colours of the ids.

    Args:
        uri: A table of predictions.
        folder: URI of the folder to write, which holds no other export.
        kind: What the files show.
        where: SQL condition over the columns of ``frames`` (docs/queries.md) that chooses rows; None takes all.

    Raises:
        ConfigError: The condition is none.
        ExistsError: The folder holds the export of another table, or of another kind.
        TableError: There is no complete table of predictions.
    """
    started = time.monotonic()
    table = open_predictions(uri, "export takes a table of predictions")
    classes = ClassMap.from_facts(table.plan.facts)
    _claim(folder, table, classes, kind)
    wanted = None if where is None else frozenset(select_rows(table, where))
    stage = functools.partial(
        _export_shard, plan=table.plan, classes=classes, policy=_policy(table), folder=folder, kind=kind
    )
    items = list(_shards(table, wanted))
    planned = sum(table.plan.shard_size(shard) if ids is None else len(ids) for shard, _, ids in items)
    counts: Counter[str] = Counter()
    meter = Meter("export", "frames")
    for row in pipeline.collect(items, 1, stage):
        counts.update({name: row[name] for name in ("rows", "files", "unreadable")})
        meter(Progress(done=counts["rows"], planned=planned, resumed=0, quarantined=counts["unreadable"]))
    sys.stderr.write(f"{counts['files']} files: {folder}\n")
    return Exported(
        folder=folder,
        files=counts["files"],
        unreadable=counts["unreadable"],
        seconds=round(time.monotonic() - started, 1),
    )


def _claim(folder: str, table: Table, classes: ClassMap, kind: Format) -> None:
    """Write what the folder is, or check that it is the same."""
    ids = [
        {"class_id": class_id, "name": name, "colour": list(colour)}
        for class_id, (name, colour) in enumerate(zip(classes.classes, classes.palette, strict=True))
    ]
    document = {"predictions": table.uri, "run_id": table.plan.run_id, "kind": kind, "classes": ids}
    data = json.dumps(document, ensure_ascii=False, indent=1).encode()
    try:
        storage.create(f"{folder}/classes.json", data, exclusive=False)
    except ExistsError:
        raise ExistsError(
            f"{folder}: holds the export of another table or kind (classes.json); choose another folder"
        ) from None


def _policy(table: Table) -> ImagesSection:
    """Return how the frames of a prediction were read."""
    settings: Mapping[str, Any] = table.plan.settings
    found = {key.removeprefix("images."): value for key, value in settings.items() if key.startswith("images.")}
    return ImagesSection(**found)


def _shards(table: Table, wanted: frozenset[int] | None) -> list[tuple[int, list[str], list[int] | None]]:
    """Return each shard that has something to write, its parts, and its rows to take, None for all."""
    parts: dict[int, list[str]] = {}
    for shard, uri in zip(table.manifest["shard"].to_pylist(), table.part_uris(), strict=True):
        parts.setdefault(shard, []).append(uri)
    if wanted is None:
        return [(shard, uris, None) for shard, uris in parts.items()]
    chosen: dict[int, list[int]] = {}
    for row_id in sorted(wanted):
        chosen.setdefault(row_id // table.plan.shard_rows, []).append(row_id)
    return [(shard, parts[shard], row_ids) for shard, row_ids in chosen.items()]


def _export_shard(
    item: tuple[int, list[str], list[int] | None],
    plan: Plan,
    classes: ClassMap,
    policy: ImagesSection,
    folder: str,
    kind: Format,
) -> pa.Table:
    """Write the files of a shard; runs in a task."""
    shard, uris, row_ids = item
    wanted = None if row_ids is None else set(row_ids)
    listed = io.StringIO()
    writer = csv.writer(listed, lineterminator="\n")
    writer.writerow(["file", "row_id", "image_id", "group", "frame"])
    files = unreadable = rows = 0
    for row in _read(uris):
        if wanted is not None and row["row_id"] not in wanted:
            continue
        rows += 1
        if row["status"] != OK:
            continue
        try:
            data = _draw(row, plan, classes, policy, kind)
        except ImageError:
            unreadable += 1
            continue
        name = f"{row['row_id']:09d}.{_ENDING[kind]}"
        storage.write(f"{folder}/{name}", data)
        writer.writerow([name, *(row[key] for key in ("row_id", "image_id", "group", "frame"))])
        files += 1
    storage.write(f"{folder}/index-{shard:06d}.csv", listed.getvalue().encode())
    return pa.table({"rows": [rows], "files": [files], "unreadable": [unreadable]})


def _draw(row: Mapping[str, Any], plan: Plan, classes: ClassMap, policy: ImagesSection, kind: Format) -> bytes:
    mask = decode_stored_mask(row["pred_mask"], row["height"], row["width"], plan.facts["mask_encoding"])
    if kind == "index":
        return encode_mask(mask, "png")
    buffer = io.BytesIO()
    if kind == "palette":
        picture = Image.fromarray(mask)
        picture.putpalette([channel for colour in classes.palette for channel in colour])
        picture.save(buffer, "PNG")
        return buffer.getvalue()
    shard, place = divmod(row["row_id"], plan.shard_rows)
    planned = plan.read(Unit(shard, place // plan.unit_rows))[place % plan.unit_rows]
    image, _ = read_frame(planned, classes, policy)
    Image.fromarray(blend(image, mask, classes.palette)).save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()


def _read(uris: Sequence[str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for uri in uris:
        filesystem, path = storage.arrow_filesystem(uri)
        with translated("read", uri):
            rows += pq.read_table(path, columns=list(_COLUMNS), filesystem=filesystem).to_pylist()
    return rows
