"""Gathering what a report shows, and writing it; reads the history and a published predictions table, without Ray."""

import logging
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from unet_ray import storage
from unet_ray.config import Config
from unet_ray.datasets.frames import read_frame
from unet_ray.errors import ImageError, NotFoundError
from unet_ray.faults import translated
from unet_ray.history import read_history
from unet_ray.images.encode import decode_stored_mask
from unet_ray.labels.classes import ClassMap
from unet_ray.metrics import score
from unet_ray.report.content import ClassRow, Panel, Quarantined, ReportContent
from unet_ray.report.page import render_page
from unet_ray.report.text import class_table
from unet_ray.schema import OK
from unet_ray.table.read import Table, open_table

logger = logging.getLogger(__name__)

_MOST_QUARANTINED = 50
_NOTES = (
    "IoU = TP / (TP + FP + FN), from pixel counts summed over all frames; a class that occurs neither in truth nor in "
    "prediction has none.",
    "mIoU is the mean over the classes that have an IoU; object mIoU leaves out the background class, if there is one.",
    "Pixels without a label are never counted. Padding is cropped before counting.",
)


@dataclass(frozen=True, kw_only=True)
class ReportResult:
    """Where the page is, and its headline numbers; None without truth."""

    report: str
    frames: int
    quarantined: int
    miou: float | None
    object_miou: float | None
    pixel_accuracy: float | None


def run(config: Config) -> ReportResult:
    """Write ``report/index.html`` of a run and print its class table to standard error.

    Raises:
        TableError: The predictions are missing or not complete.
    """
    table = open_table(config.predictions_uri)
    classes = ClassMap.from_facts(table.plan.facts)
    counts = table.success.totals["confusion"] or [0] * classes.num_classes**2
    scores = score(counts, classes.background)
    rows = table.read(["row_id", "image_id", "status", "error_code", "error_message", "confusion"])
    quarantined = rows.filter(pc.not_equal(rows["status"], OK))
    class_rows = tuple(
        ClassRow(class_id=k, name=name, colour=classes.palette[k], tp=one.tp, fp=one.fp, fn=one.fn, iou=one.iou)
        for k, (name, one) in enumerate(zip(classes.classes, scores.classes, strict=True))
    )
    headline = (
        ("mIoU", scores.miou),
        ("object mIoU", scores.object_miou),
        ("pixel accuracy", scores.pixel_accuracy),
    )
    content = ReportContent(
        title=f"{config.run.name}: segmentation report",
        facts=_facts(config, table),
        scores=headline,
        classes=class_rows,
        confusion=np.array(counts, np.int64).reshape(classes.num_classes, -1),
        history=_history(config),
        panels=tuple(_panels(config, table, classes, rows)),
        quarantined=tuple(
            Quarantined(image_id=row["image_id"], error_code=row["error_code"], error_message=row["error_message"])
            for row in quarantined.slice(0, _MOST_QUARANTINED).to_pylist()
        ),
        quarantined_total=len(quarantined),
        notes=_NOTES,
    )
    uri = f"{config.report_uri}/index.html"
    storage.write(uri, render_page(content).encode())
    sys.stderr.write(f"{class_table(class_rows, headline)}\n\nreport: {uri}\n")
    return ReportResult(
        report=uri,
        frames=table.success.num_rows,
        quarantined=table.success.num_quarantined,
        miou=scores.miou,
        object_miou=scores.object_miou,
        pixel_accuracy=scores.pixel_accuracy,
    )


def choose_panels(
    rows: Sequence[Mapping[str, Any]], each: int, background: int | None, seed: int
) -> list[tuple[Literal["best", "worst", "random"], int, float | None]]:
    """Choose the frames to show: the best and worst by their own mIoU, and some at random among the others.

    Args:
        rows: ok rows with row_id and confusion.
        each: Frames of each kind.
        background: Class that object scores leave out; not used for the ranking.
        seed: Seed of the random choice.

    Returns:
        Kind, row_id and mIoU; only random ones when no frame has truth. No frame is chosen twice.
    """
    ranked: list[tuple[float, int]] = []
    without: list[int] = []
    for row in rows:
        value = score(row["confusion"], background).miou if row["confusion"] is not None else None
        if value is None:
            without.append(row["row_id"])
        else:
            ranked.append((value, row["row_id"]))
    ranked.sort()
    low = min(each, len(ranked) // 2)
    worst, rest = ranked[:low], ranked[low:]
    high = min(each, len(rest))
    best, rest = rest[len(rest) - high :][::-1], rest[: len(rest) - high]
    others: list[tuple[float | None, int]] = [*rest, *((None, row_id) for row_id in without)]
    chance = random.Random(seed).sample(others, min(each, len(others)))
    return [
        *(("best", row_id, value) for value, row_id in best),
        *(("worst", row_id, value) for value, row_id in worst),
        *(("random", row_id, value) for value, row_id in chance),
    ]


def _panels(config: Config, table: Table, classes: ClassMap, rows: pa.Table) -> list[Panel]:
    ok = rows.filter(pc.equal(rows["status"], OK)).select(["row_id", "confusion"]).to_pylist()
    chosen = choose_panels(ok, config.report.panels, classes.background, config.run.seed)
    wanted = {row_id for _, row_id, _ in chosen}
    planned = {row["row_id"]: row for part in table.plan.scan() for row in _only(part, wanted)}
    predicted = {row["row_id"]: row for row in _read_masks(table, wanted)}
    encoding = table.plan.facts["mask_encoding"]
    panels = []
    for kind, row_id, value in chosen:
        row = predicted[row_id]
        try:
            image, true_mask = read_frame(planned[row_id], classes, config.images)
        except ImageError as error:
            logger.warning("%s: not shown, the frame cannot be read any more: %s", row["image_id"], error)
            continue
        panels.append(
            Panel(
                kind=kind,
                image_id=row["image_id"],
                miou=value,
                image=image,
                true_mask=true_mask,
                pred_mask=decode_stored_mask(row["pred_mask"], row["height"], row["width"], encoding),
            )
        )
    return panels


def _read_masks(table: Table, wanted: set[int]) -> list[dict[str, Any]]:
    """Read the masks of a few rows, fetching only the parts that hold one of them."""
    found: list[dict[str, Any]] = []
    ids = table.scan(["row_id"])
    for uri, part in zip(table.part_uris(), ids, strict=True):
        if wanted.isdisjoint(part["row_id"].to_pylist()):
            continue
        columns = ["row_id", "image_id", "pred_mask", "height", "width"]
        with translated("read", uri):
            filesystem, path = storage.arrow_filesystem(uri)
            found += _only(pq.read_table(path, columns=columns, filesystem=filesystem), wanted)
    return found


def _only(rows: pa.Table, wanted: set[int]) -> list[dict[str, Any]]:
    chosen: list[dict[str, Any]] = rows.filter(
        pc.is_in(rows["row_id"], pa.array(sorted(wanted), pa.int64()))
    ).to_pylist()
    return chosen


def _history(config: Config) -> tuple[dict[str, Any], ...]:
    try:
        return tuple(read_history(config.train_uri))
    except NotFoundError:
        return ()


def _facts(config: Config, table: Table) -> tuple[tuple[str, str], ...]:
    success = table.success
    settings = table.plan.settings
    model = table.plan.facts["model"]
    source = settings.get("predict.images") or f"split {settings.get('predict.split')}"
    return (
        ("run", config.run.name),
        ("frames", f"{success.num_rows} ({source})"),
        ("segmented", str(success.num_ok)),
        ("quarantined", ", ".join(f"{code} {count}" for code, count in success.errors.items()) or "0"),
        ("model", ", ".join(f"{key} {value}" for key, value in model.items() if value)),
        ("weights", f"sha256 {settings['predict.checkpoint']}"),
        ("precision", str(settings["scaling.precision"])),
        ("predictions", table.uri),
        ("plan", table.plan.run_id),
    )
