"""The frames that a report shows: which they are, and their pixels."""

import logging
import random
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from unet_ray import storage
from unet_ray.config import Config
from unet_ray.datasets.frames import read_frame
from unet_ray.errors import ImageError
from unet_ray.faults import translated
from unet_ray.images.encode import decode_stored_mask
from unet_ray.labels.classes import ClassMap
from unet_ray.metrics import score
from unet_ray.report.content import Panel, PanelKind
from unet_ray.table.read import Table

logger = logging.getLogger(__name__)

COLUMNS = ("row_id", "confusion", "class_pixels", "confidence_sum", "entropy_sum")
"""Columns of predictions from which the frames are chosen."""


class Chosen(NamedTuple):
    """A frame to show; ``miou`` is its own, None without truth."""

    kind: PanelKind
    row_id: int
    miou: float | None


def choose_frames(rows: Sequence[Mapping[str, Any]], each: int, background: int | None, seed: int) -> list[Chosen]:
    """Choose the best and the worst by their own mIoU, of the others the most uncertain, and some at random.

    Uncertain are frames with a high mean entropy of their pixels' probabilities. No frame is chosen twice.

    Args:
        rows: ok rows with `COLUMNS`.
        each: Frames of each kind.
        background: Class that object scores leave out; not used for the ranking.
        seed: Seed of the random choice.
    """
    scores = {
        row["row_id"]: score(row["confusion"], background).miou if row["confusion"] is not None else None
        for row in rows
    }
    ranked = sorted((value, row_id) for row_id, value in scores.items() if value is not None)
    low = min(each, len(ranked) // 2)
    high = min(each, len(ranked) - low)
    worst = [row_id for _, row_id in ranked[:low]]
    best = [row_id for _, row_id in ranked[len(ranked) - high :][::-1]]
    left = [row for row in rows if row["row_id"] not in {*best, *worst}]
    left.sort(key=lambda row: (-row["entropy_sum"] / sum(row["class_pixels"]), row["row_id"]))
    uncertain, rest = left[:each], left[each:]
    chance = random.Random(seed).sample(rest, min(each, len(rest)))
    kinds: list[tuple[PanelKind, list[int]]] = [
        ("best", best),
        ("worst", worst),
        ("uncertain", [row["row_id"] for row in uncertain]),
        ("random", [row["row_id"] for row in chance]),
    ]
    return [Chosen(kind, row_id, scores[row_id]) for kind, row_ids in kinds for row_id in row_ids]


def make_panels(config: Config, table: Table, classes: ClassMap, rows: pa.Table) -> list[Panel]:
    """Choose frames and read them; those whose files are gone are left out, and said so.

    Args:
        config: Says how many of each kind, and how files are read.
        table: The predictions.
        classes: Their classes.
        rows: Its ok rows, with `COLUMNS`.
    """
    records = rows.select(list(COLUMNS)).to_pylist()
    chosen = choose_frames(records, config.report.panels, classes.background, config.run.seed)
    wanted = {one.row_id for one in chosen}
    planned = {row["row_id"]: row for part in table.plan.scan() for row in _only(part, wanted)}
    predicted = {row["row_id"]: row for row in _read_masks(table, wanted)}
    encoding = table.plan.facts["mask_encoding"]
    panels = []
    for kind, row_id, miou in chosen:
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
                miou=miou,
                confidence=sum(row["confidence_sum"]) / (255 * row["height"] * row["width"]),
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
        columns = ["row_id", "image_id", "pred_mask", "height", "width", "confidence_sum"]
        with translated("read", uri):
            filesystem, path = storage.arrow_filesystem(uri)
            found += _only(pq.read_table(path, columns=columns, filesystem=filesystem), wanted)
    return found


def _only(rows: pa.Table, wanted: set[int]) -> list[dict[str, Any]]:
    chosen: list[dict[str, Any]] = rows.filter(
        pc.is_in(rows["row_id"], pa.array(sorted(wanted), pa.int64()))
    ).to_pylist()
    return chosen
