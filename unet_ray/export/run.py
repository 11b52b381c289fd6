"""The driver of ``unet-ray export``, and the task of a portion."""

import functools
import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any

import pyarrow as pa

from unet_ray import pipeline, storage
from unet_ray.config_input import ImagesSection
from unet_ray.errors import ConfigError, ExistsError, ImageError, NotFoundError
from unet_ray.export import Kind, coco, pairs, pictures
from unet_ray.export.documents import delete_portions, join
from unet_ray.export.fiftyone import fiftyone
from unet_ray.export.frames import Portion, Source, read_frames
from unet_ray.export.geotiff import geotiff
from unet_ray.export.sink import FRAMES, Format, Sink
from unet_ray.export.video import video
from unet_ray.labels.classes import ClassMap
from unet_ray.progress import Meter
from unet_ray.query.run import select_rows
from unet_ray.table.commit import Progress
from unet_ray.table.read import Table, open_predictions

logger = logging.getLogger(__name__)

Wanted = frozenset[int] | None
"""The row_ids to export; None is all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """What `run` wrote: frames, and how many could not be, whose photo is gone or is another by now.

    ``unreferenced`` are the frames of a GeoTIFF export that lie nowhere, since their photo does not say where.
    """

    folder: str
    frames: int
    unreadable: int
    unreferenced: int
    seconds: float = field(compare=False)


def run(uri: str, folder: str, kind: Kind, where: str | None, fps: float = 25.0) -> Exported:
    """Write the masks of segmented frames in a format (docs/exports.md). Runs on the driver, with Ray connected.

    Every export has ``frames.csv``, which tells the file of each frame, and ``classes.json``, names and colours of the
    ids. One that was cut off is repeated. A finished one is left alone: its masks may have been corrected.

    Args:
        uri: A table of predictions.
        folder: URI of the folder to write, which holds no other export.
        kind: The format.
        where: SQL condition over the columns of ``frames`` (docs/queries.md) that chooses rows; None takes all.
        fps: Frames a second of a video.

    Raises:
        ConfigError: The condition is none, or holds for no frame; the rate is none; or the format cannot hold the
            classes.
        ExistsError: The folder holds another export.
        TableError: There is no complete table of predictions.
    """
    started = time.monotonic()
    if not 0 < fps <= 1000:
        raise ConfigError(f"--fps: must be in 0..1000, and not 0, got {fps:g}")
    table = open_predictions(uri, "export takes a table of predictions")
    format = _formats(fps)[kind]
    source = Source(plan=table.plan, classes=ClassMap.from_facts(table.plan.facts), policy=_policy(table))
    files = format.files(source.classes, folder)
    wanted = None if where is None else frozenset(select_rows(table, where))
    if wanted is not None and not wanted:
        raise ConfigError(f"--where: must hold for a frame, got {where!r}, for which there is none in {uri}")
    _claim(folder, source, {"kind": kind, "where": where, **({"fps": fps} if format.by_group else {})})
    done = _read_success(folder)
    if done is None:
        for name, data in files.items():
            storage.write(f"{folder}/{name}", data)
        done = _export(table, source, folder, kind, wanted, fps)
        storage.write(f"{folder}/_SUCCESS.json", json.dumps(done).encode())
    else:
        logger.info("%s: already complete, left as it is", folder)
    if done["unreferenced"]:
        logger.warning("%d of %d frames have no georeference: plain TIFFs", done["unreferenced"], done["frames"])
    sys.stderr.write(f"{done['frames']} frame(s): {folder}\n")
    return Exported(folder=folder, **done, seconds=round(time.monotonic() - started, 1))


def _formats(fps: float) -> Mapping[Kind, Format]:
    def of_video(beside: bool) -> Format:
        return Format(open=functools.partial(video, fps=fps, beside=beside), by_group=True)

    return {
        "index": Format(open=pictures.index),
        "palette": Format(open=pictures.palette),
        "overlay": Format(open=pictures.overlay),
        "geotiff": Format(open=geotiff),
        "list": Format(open=pairs.list_pairs, documents=pairs.list_documents, files=pairs.list_files),
        "voc": Format(open=pairs.voc, documents=pairs.voc_documents, files=pairs.voc_files),
        "cvat": Format(open=pairs.cvat, documents=pairs.list_documents, files=pairs.cvat_files),
        "coco": Format(open=coco.coco, documents=coco.coco_documents),
        "fiftyone": Format(open=fiftyone),
        "video": of_video(beside=False),
        "video-beside": of_video(beside=True),
    }


def _claim(folder: str, source: Source, settings: Mapping[str, Any]) -> None:
    """Write what the folder is, or check that it is the same."""
    classes = source.classes
    ids = [
        {"class_id": class_id, "name": name, "colour": list(colour)}
        for class_id, (name, colour) in enumerate(zip(classes.classes, classes.palette, strict=True))
    ]
    document = {"predictions": source.plan.uri, "run_id": source.plan.run_id, **settings, "classes": ids}
    data = json.dumps(document, ensure_ascii=False, indent=1).encode()
    try:
        storage.create(f"{folder}/classes.json", data, exclusive=False)
    except ExistsError:
        raise ExistsError(
            f"{folder}: holds the export of another table, kind or condition (classes.json); choose another folder"
        ) from None


def _read_success(folder: str) -> dict[str, int] | None:
    try:
        done: dict[str, int] = json.loads(storage.read_bytes(f"{folder}/_SUCCESS.json"))
    except NotFoundError:
        return None
    return done


def _export(table: Table, source: Source, folder: str, kind: Kind, wanted: Wanted, fps: float) -> dict[str, int]:
    """Write all frames and documents; return the counts."""
    format = _formats(fps)[kind]
    portions = _groups(table, wanted) if format.by_group else _shards(table, wanted)
    planned = table.plan.num_rows if wanted is None else len(wanted)
    stage = functools.partial(_export_portion, source=source, folder=folder, kind=kind, fps=fps)
    counts: Counter[str] = Counter(frames=0, unreadable=0, unreferenced=0)
    rows = 0
    meter = Meter("export", "frames")
    for row in pipeline.collect(portions, 1, stage):
        rows += row.pop("rows")
        counts.update(row)
        meter(Progress(done=rows, planned=planned, resumed=0, quarantined=counts["unreadable"]))
    for document in (FRAMES, *format.documents(source.classes)):
        join(folder, document, [portion.key for portion in portions])
    delete_portions(folder)
    return dict(counts)


def _policy(table: Table) -> ImagesSection:
    """Return how the frames of a prediction were read."""
    found: dict[str, Any] = {
        key.removeprefix("images."): tuple(value) if isinstance(value, list) else value
        for key, value in table.plan.settings.items()
        if key.startswith("images.")
    }
    return ImagesSection(**found)


def _parts(table: Table) -> dict[int, tuple[str, ...]]:
    """Return the parts of each shard."""
    pairs = zip(table.manifest["shard"].to_pylist(), table.part_uris(), strict=True)
    return {shard: tuple(uri for _, uri in members) for shard, members in groupby(pairs, key=itemgetter(0))}


def _shards(table: Table, wanted: Wanted) -> list[Portion]:
    """Return each shard that has something to write."""
    parts = _parts(table)
    if wanted is None:
        return [Portion(key=shard, parts=uris, row_ids=None) for shard, uris in parts.items()]
    chosen: dict[int, list[int]] = {}
    for row_id in sorted(wanted):
        chosen.setdefault(row_id // table.plan.shard_rows, []).append(row_id)
    return [Portion(key=shard, parts=parts[shard], row_ids=frozenset(ids)) for shard, ids in chosen.items()]


def _groups(table: Table, wanted: Wanted) -> list[Portion]:
    """Return each group that has something to write; it may lie in several shards."""
    parts, shard_rows = _parts(table), table.plan.shard_rows
    first: dict[str, int] = {}
    shards: dict[str, set[int]] = {}
    for rows in table.scan(["row_id", "group"]):
        for row_id, group in zip(rows["row_id"].to_pylist(), rows["group"].to_pylist(), strict=True):
            if wanted is None or row_id in wanted:
                first[group] = min(row_id, first.get(group, row_id))
                shards.setdefault(group, set()).add(row_id // shard_rows)
    return [
        Portion(
            key=first[group],
            parts=tuple(uri for shard in sorted(shards[group]) for uri in parts[shard]),
            row_ids=wanted,
            group=group,
        )
        for group in sorted(first, key=first.__getitem__)
    ]


def _export_portion(portion: Portion, source: Source, folder: str, kind: Kind, fps: float) -> pa.Table:
    """Write the frames of a portion; runs in a task."""
    format = _formats(fps)[kind]
    sink = Sink(folder, portion.key, source.classes, format.documents(source.classes))
    rows = unreadable = 0
    with format.open(sink) as write:
        for frame in read_frames(portion, source):
            rows += 1
            if frame is None:
                continue
            try:
                write(frame)
            except ImageError:
                unreadable += 1
    sink.close()
    counts = {"rows": rows, "frames": sink.frames, "unreadable": unreadable, "unreferenced": sink.unreferenced}
    return pa.table({name: [count] for name, count in counts.items()})
