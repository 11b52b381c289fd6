"""What a reader may see in a store, judged from its objects alone: nothing of ours is used to read them."""

import io
import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def read_published(objects: Mapping[str, bytes], table: str) -> tuple[dict[str, Any], pa.Table]:
    """Return the mark of a published table and all its rows by row_id, read through the manifest."""
    success = json.loads(objects[f"{table}/_SUCCESS.json"])
    manifest = pq.read_table(io.BytesIO(objects[f"{table}/_MANIFEST.parquet"]))
    parts = [pq.read_table(io.BytesIO(objects[f"{table}/{path}"])) for path in manifest["path"].to_pylist()]
    return success, pa.concat_tables(parts).sort_by("row_id")


def seen_too_soon(objects: Mapping[str, bytes], table: str) -> str | None:
    """Tell what a reader could see of a table that is not whole, or None: it sees nothing, or all of it."""
    log, mark, manifest = (
        f"{table}/{name}" for name in ("_delta_log/00000000000000000000.json", "_SUCCESS.json", "_MANIFEST.parquet")
    )
    if log in objects:
        actions = [json.loads(line)["add"] for line in objects[log].splitlines() if b'"add"' in line]
        missing = [add["path"] for add in actions if len(objects.get(f"{table}/{add['path']}", b"")) != add["size"]]
        if missing:
            return f"the Delta log lists {missing[0]}, which is not there as it says"
        planned = json.loads(objects[f"{table}/_PLAN.json"])["num_rows"]
        if sum(json.loads(add["stats"])["numRecords"] for add in actions) != planned:
            return "the Delta log lists other rows than were planned"
    if mark in objects and not {log, manifest} <= objects.keys():
        return "the mark is there before the manifest and the Delta log"
    return None
