"""A small table job that runs inline: planned rows, the prediction each becomes, and an executor that is a loop."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from unet_ray import storage
from unet_ray.calibration import BINS
from unet_ray.schema import OK, PREDICTION, PREDICTION_SUMMED, QUARANTINED
from unet_ray.table.commit import QuarantineLimits, fill
from unet_ray.table.parts import Part, write_part
from unet_ray.table.plan import Plan, Terms, Unit, create_plan
from unet_ray.table.publish import Success

NUM_CLASSES = 3
NUM_ROWS = 9
SHARD_ROWS = 4
UNIT_ROWS = 2
NUM_UNITS = 5
"""Units of the rows above: shards of 4, 4 and 1 rows in units of 2, so the last shard and unit are short."""

BAD_ROWS = {3: "truncated", 6: "missing_image"}
"""Rows that are quarantined, with their error code."""

ROWS_WITHOUT_TRUTH = {1, 5}


def planned_rows(count: int = NUM_ROWS) -> list[dict[str, Any]]:
    return [
        {
            "image_id": f"seq_{number // 3}/{number:03d}.png",
            "image_uri": f"s3://frames/seq_{number // 3}/{number:03d}.png",
            "image_etag": f"etag-{number}",
            "image_bytes": 1000 + number,
            "group": f"seq_{number // 3}",
            "frame": number % 3,
            "split": ("train", "val")[number % 2],
        }
        for number in range(count)
    ]


def terms(**changes: Any) -> Terms:
    wanted: dict[str, Any] = {
        "kind": "predictions",
        "settings": {"predict.batch_size": UNIT_ROWS, "predict.checkpoint": "0123"},
        "facts": {"classes": ("road", "sky", "car"), "background": None},
        "summed": PREDICTION_SUMMED,
        "shard_rows": SHARD_ROWS,
        "unit_rows": UNIT_ROWS,
    }
    return Terms(**wanted | changes)


def begin(uri: str, rows: Iterable[Mapping[str, Any]] | None = None, **changes: Any) -> Plan:
    return create_plan(uri, planned_rows() if rows is None else rows, terms(**changes), notes={})


def predict(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the finished row (`schema.PREDICTION`) of a planned one: a function of its row_id alone."""
    row_id = row["row_id"]
    result = {name: row[name] for name in ("row_id", "image_id", "image_uri", "group", "frame", "split")}
    if row_id in BAD_ROWS:
        return result | {"status": QUARANTINED, "error_code": BAD_ROWS[row_id], "error_message": "cannot be used"}
    rng = np.random.default_rng(row_id)
    height, width = 2, 3 + row_id % 2
    mask = rng.integers(NUM_CLASSES, size=(height, width), dtype=np.uint8)
    result |= {
        "status": OK,
        "pred_mask": mask.tobytes(),
        "height": height,
        "width": width,
        "channel_sum": [row_id, 100 + row_id, 200 + row_id],
        "class_pixels": [int((mask == class_id).sum()) for class_id in range(NUM_CLASSES)],
        "confidence_sum": [200 * int((mask == class_id).sum()) for class_id in range(NUM_CLASSES)],
        "entropy_sum": 10 * mask.size,
        "boundary_length": row_id,
        "components": [1, 0, row_id],
        "lasting": [row_id, 0, 1, 2, 3, 4] if row["frame"] else None,
    }
    if row_id not in ROWS_WITHOUT_TRUTH:
        result |= {"ignored_pixels": row_id, "confusion": rng.integers(100, size=NUM_CLASSES**2).tolist()}
        result |= {"calibration": rng.integers(100, size=3 * BINS).tolist()}
    return result


def predict_rows(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist([predict(row) for row in rows], schema=PREDICTION)


def write_unit(plan: Plan, unit: Unit) -> Part:
    return write_part(plan, [unit], predict_rows(plan.read(unit)))


def produce(plan: Plan, units: Sequence[Unit]) -> Iterator[Part]:
    for unit in units:
        yield write_unit(plan, unit)


def finish(plan: Plan) -> tuple[Success, bool]:
    return fill(plan, lambda units: produce(plan, units), limits=QuarantineLimits(fraction=0.5))


def expected_rows() -> pa.Table:
    """Return what the published table must hold, made without the table."""
    return predict_rows({"row_id": row_id, **row} for row_id, row in enumerate(planned_rows()))


def keys(uri: str) -> list[str]:
    """Return the keys of all objects under a URI, sorted."""
    return sorted(item.key for item in storage.list_objects(uri))
