"""The frames that a report shows: which they are, and their pixels."""

import logging
import random
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from unet_ray import storage
from unet_ray.config import Config
from unet_ray.datasets.frames import read_frame
from unet_ray.errors import ImageError
from unet_ray.faults import translated
from unet_ray.images.encode import decode_stored_mask
from unet_ray.labels.classes import ClassMap
from unet_ray.report.content import Panel, PanelKind
from unet_ray.report.frames import Frames
from unet_ray.table.read import Table

logger = logging.getLogger(__name__)


class Chosen(NamedTuple):
    """A frame to show; ``miou`` is its own, None without truth."""

    kind: PanelKind
    row_id: int
    miou: float | None


def choose_frames(
    row_ids: NDArray[np.int64], mious: NDArray[np.float64], uncertainties: NDArray[np.float64], each: int, seed: int
) -> list[Chosen]:
    """Choose the best and the worst by their own mIoU, of the others the most uncertain, and some at random.

    No frame is chosen twice.

    Args:
        row_ids: ``(n,)`` frames to choose from, ascending.
        mious: Their mIoU, NaN without truth.
        uncertainties: The mean entropy of their pixels' probabilities.
        each: Frames of each kind.
        seed: Seed of the random choice.
    """
    ranked = np.argsort(mious, kind="stable")[: np.count_nonzero(~np.isnan(mious))]
    low = min(each, len(ranked) // 2)
    high = min(each, len(ranked) - low)
    worst, best = ranked[:low], ranked[len(ranked) - high :][::-1]
    left = np.setdiff1d(np.arange(len(row_ids)), [*worst, *best])
    left = left[np.argsort(-uncertainties[left], kind="stable")]
    uncertain, rest = left[:each], left[each:].tolist()
    chance = random.Random(seed).sample(rest, min(each, len(rest)))
    kinds: list[tuple[PanelKind, Iterable[int]]] = [
        ("best", best.tolist()),
        ("worst", worst.tolist()),
        ("uncertain", uncertain.tolist()),
        ("random", chance),
    ]
    return [
        Chosen(kind, int(row_ids[place]), None if np.isnan(mious[place]) else float(mious[place]))
        for kind, places in kinds
        for place in places
    ]


def make_panels(config: Config, table: Table, classes: ClassMap, frames: Frames) -> list[Panel]:
    """Choose frames and read them; those whose files are gone are left out, and said so.

    Args:
        config: Says how many of each kind, and how files are read.
        table: The predictions.
        classes: Their classes.
        frames: Their numbers.
    """
    row_ids = np.flatnonzero(frames.is_ok)
    uncertainties = frames.entropy_sum[row_ids] / frames.pixels[row_ids]
    chosen = choose_frames(row_ids, frames.miou[row_ids], uncertainties, config.report.panels, config.run.seed)
    wanted = {one.row_id for one in chosen}
    planned = {row["row_id"]: row for part in table.plan.scan() for row in _only(part, wanted)}
    predicted = {row["row_id"]: row for row in _read_masks(table, wanted)}
    encoding = table.plan.facts["mask_encoding"]
    panels = []
    for kind, row_id, miou in chosen:
        row = predicted[row_id]
        size = row["height"], row["width"]
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
                confidence=int(frames.confidence_sum[row_id]) / (255 * int(frames.pixels[row_id])),
                image=image,
                true_mask=true_mask,
                pred_mask=decode_stored_mask(row["pred_mask"], *size, encoding),
                confidence_map=row["confidence"] and decode_stored_mask(row["confidence"], *size, encoding),
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
        columns = ["row_id", "image_id", "pred_mask", "height", "width", "confidence"]
        with translated("read", uri):
            filesystem, path = storage.arrow_filesystem(uri)
            found += _only(pq.read_table(path, columns=columns, filesystem=filesystem), wanted)
    return found


def _only(rows: pa.Table, wanted: set[int]) -> list[dict[str, Any]]:
    chosen: list[dict[str, Any]] = rows.filter(
        pc.is_in(rows["row_id"], pa.array(sorted(wanted), pa.int64()))
    ).to_pylist()
    return chosen
