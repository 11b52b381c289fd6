"""``unet-ray compare``: how far two predictions of the same frames agree, and where they do not.

Every shard of the first is compared with the same rows of the second in a Ray task; counts are added on the driver.

Shapes: H W pixels, K classes.
"""

import functools
import json
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from unet_ray import pipeline, storage
from unet_ray.columns import align
from unet_ray.errors import TableError
from unet_ray.faults import translated
from unet_ray.images.encode import MaskEncoding, decode_stored_mask
from unet_ray.metrics import count_confusion, score
from unet_ray.progress import Meter
from unet_ray.schema import OK
from unet_ray.table.commit import Progress
from unet_ray.table.read import Table, open_predictions

_RULE = "compare takes two tables of predictions"
_MOST_SHOWN = 10
_COLUMNS = ("row_id", "image_id", "status", "pred_mask", "height", "width")


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """A frame whose masks differ: how many of its pixels do, and the mean IoU of one mask against the other."""

    image_id: str
    changed_pixels: int
    pixels: int
    miou: float | None

    @property
    def share(self) -> float:
        """The share of the pixels that differ."""
        return self.changed_pixels / self.pixels


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """How far two predictions agree.

    ``miou`` and ``class_iou`` take the masks of one as truth for the other, which is the same either way;
    ``pixel_agreement`` is the share of pixels with the same class. None where nothing defines them. ``compared`` frames
    have a mask in both, ``in_one_only`` in one of the two. ``most_changed`` are the frames with the largest share of
    changed pixels.
    """

    first: str
    second: str
    compared: int
    identical: int
    in_one_only: int
    miou: float | None
    pixel_agreement: float | None
    class_iou: dict[str, float | None]
    most_changed: tuple[Change, ...]
    seconds: float = field(compare=False)


def run(first_uri: str, second_uri: str) -> Comparison:
    """Compare two predictions of the same frames. Runs on the driver, with Ray connected.

    Args:
        first_uri: A table of predictions.
        second_uri: Another, of the same frames in the same order, by any model of the same classes.

    Raises:
        TableError: One is no complete table of predictions, or they are of other classes or other frames.
    """
    started = time.monotonic()
    first, second = (open_predictions(uri, _RULE) for uri in (first_uri, second_uri))
    names = first.plan.facts["classes"]
    if second.plan.facts["classes"] != names:
        raise TableError(
            f"{second_uri}: knows the classes {second.plan.facts['classes']}, {first_uri} {names}; "
            "compare predictions of the same classes"
        )
    if second.plan.num_rows != first.plan.num_rows:
        raise TableError(
            f"{second_uri}: holds {second.plan.num_rows} frames, {first_uri} {first.plan.num_rows}; "
            "compare predictions of the same frames"
        )
    encodings = first.plan.facts["mask_encoding"], second.plan.facts["mask_encoding"]
    stage = functools.partial(_compare_shard, encodings=encodings, num_classes=len(names))
    confusion_KK = np.zeros((len(names), len(names)), np.int64)
    counts: Counter[str] = Counter()
    changes: list[Change] = []
    meter = Meter("compare", "frames")
    pairs = list(zip(_parts_by_shard(first, first), _parts_by_shard(first, second), strict=True))
    for row in pipeline.collect(pairs, 1, stage):
        found = json.loads(row["found"])
        confusion_KK += found["confusion"]
        counts.update(found["counts"])
        changes = _most_changed([*changes, *(Change(**one) for one in found["changes"])])
        meter(Progress(done=counts["rows"], planned=first.plan.num_rows, resumed=0, quarantined=0))
    scores = score(confusion_KK)
    comparison = Comparison(
        first=first_uri,
        second=second_uri,
        compared=counts["compared"],
        identical=counts["identical"],
        in_one_only=counts["in_one_only"],
        miou=scores.miou,
        pixel_agreement=scores.pixel_accuracy,
        class_iou={name: one.iou for name, one in zip(names, scores.classes, strict=True)},
        most_changed=tuple(changes),
        seconds=round(time.monotonic() - started, 1),
    )
    sys.stderr.write(f"{comparison_text(comparison)}\n")
    return comparison


def comparison_text(found: Comparison) -> str:
    """Return a comparison as text: its classes, then the frames that changed most. There is no final newline."""
    classes = align(
        [
            ("class", "IoU"),
            *((name, _ratio(iou)) for name, iou in found.class_iou.items()),
            ("mIoU", _ratio(found.miou)),
            ("pixels alike", _ratio(found.pixel_agreement)),
        ]
    )
    frames = align(
        [
            ("most changed", "pixels", "mIoU"),
            *((one.image_id, f"{one.share:.1%}", _ratio(one.miou)) for one in found.most_changed),
        ]
    )
    counts = f"{found.compared} frames, {found.identical} of them alike, {found.in_one_only} with a mask in one only"
    return "\n".join([*classes, "", *(frames if found.most_changed else []), "", counts])


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _parts_by_shard(of: Table, table: Table) -> list[list[str]]:
    """Return, for each shard of one table, the parts of another that hold its rows."""
    parts: dict[int, list[str]] = {}
    for shard, uri in zip(table.manifest["shard"].to_pylist(), table.part_uris(), strict=True):
        parts.setdefault(shard, []).append(uri)
    found = []
    for shard in range(of.plan.num_shards):
        first = shard * of.plan.shard_rows
        last = first + of.plan.shard_size(shard) - 1
        shards = range(first // table.plan.shard_rows, last // table.plan.shard_rows + 1)
        found.append([uri for one in shards for uri in parts[one]])
    return found


def _compare_shard(
    parts: tuple[list[str], list[str]], encodings: tuple[MaskEncoding, MaskEncoding], num_classes: int
) -> pa.Table:
    """Compare the rows of a shard; runs in a task."""
    first, second = (_read(uris) for uris in parts)
    second = second.filter(pc.is_in(second["row_id"], first["row_id"]))
    confusion_KK = np.zeros((num_classes, num_classes), np.int64)
    counts: Counter[str] = Counter(rows=len(first))
    changes: list[Change] = []
    for one, two in zip(first.to_pylist(), second.to_pylist(), strict=True):
        if one["image_id"] != two["image_id"]:
            raise TableError(
                f"{parts[1][0].partition('/data/')[0]}: row {one['row_id']} is {two['image_id']}, of the other table "
                f"{one['image_id']}; compare predictions of the same frames"
            )
        if one["status"] != OK or two["status"] != OK:
            counts["in_one_only"] += one["status"] != two["status"]
            continue
        true_mask, pred_mask = (
            decode_stored_mask(row["pred_mask"], row["height"], row["width"], encoding)
            for row, encoding in zip((one, two), encodings, strict=True)
        )
        of_frame_KK = count_confusion(true_mask, pred_mask, num_classes)
        confusion_KK += of_frame_KK
        changed = int(of_frame_KK.sum() - of_frame_KK.trace())
        counts.update(compared=1, identical=not changed)
        if changed:
            miou = score(of_frame_KK).miou
            pixels = int(of_frame_KK.sum())
            changes.append(Change(image_id=one["image_id"], changed_pixels=changed, pixels=pixels, miou=miou))
    found = {
        "confusion": confusion_KK.tolist(),
        "counts": counts,
        "changes": [asdict(change) for change in _most_changed(changes)],
    }
    return pa.table({"found": [json.dumps(found)]})


def _most_changed(changes: list[Change]) -> list[Change]:
    return sorted(changes, key=lambda one: (-one.share, one.image_id))[:_MOST_SHOWN]


def _read(uris: list[str]) -> pa.Table:
    tables = []
    for uri in uris:
        filesystem, path = storage.arrow_filesystem(uri)
        with translated("read", uri):
            tables.append(
                pq.read_table(path, columns=list(_COLUMNS), filesystem=filesystem, page_checksum_verification=True)
            )
    return pa.concat_tables(tables).sort_by("row_id")
