"""Publishing: the manifest, the Delta log and, last, the mark that says the table is complete.

Every byte follows from the plan and the seals alone, so two drivers that publish write the same objects.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from unet_ray import storage
from unet_ray.errors import NotFoundError, TableError
from unet_ray.faults import translated
from unet_ray.schema import MANIFEST
from unet_ray.table.parts import Part, Totals, add_totals
from unet_ray.table.plan import Plan

_DELTA_TYPES = {pa.int64(): "long", pa.int32(): "integer", pa.string(): "string", pa.large_binary(): "binary"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Success:
    """What a published table says of itself; ``totals`` are sums of the integers in its ok rows."""

    run_id: str
    num_rows: int
    num_ok: int
    num_quarantined: int
    errors: Mapping[str, int]
    totals: Totals
    num_parts: int
    manifest_sha256: str


def read_success(uri: str) -> Success | None:
    """Return the mark of a published table, or None when it is not published."""
    try:
        return Success(**json.loads(storage.read_bytes(f"{uri}/_SUCCESS.json")))
    except NotFoundError:
        return None


def publish(plan: Plan, shards: Sequence[Sequence[Part]]) -> Success:
    """Make a complete table visible; repeating it, even from another driver, changes nothing.

    Args:
        plan: The stored plan.
        shards: The sealed parts of every shard, in shard order.

    Raises:
        TableError: Planned rows are not the sum of ok and quarantined rows.
    """
    parts = [part for shard in shards for part in shard]
    errors: Counter[str] = Counter()
    for part in parts:
        errors.update(part.errors)
    num_ok = sum(part.num_ok for part in parts)
    if num_ok + errors.total() != plan.num_rows:
        raise TableError(
            f"{plan.uri}: {plan.num_rows} rows planned, {num_ok} ok + {errors.total()} quarantined; not published"
        )
    manifest = _manifest(parts)
    success = Success(
        run_id=plan.run_id,
        num_rows=plan.num_rows,
        num_ok=num_ok,
        num_quarantined=errors.total(),
        errors=dict(sorted(errors.items())),
        totals=add_totals([part.totals for part in parts]),
        num_parts=len(parts),
        manifest_sha256=hashlib.sha256(manifest).hexdigest(),
    )
    storage.create(f"{plan.uri}/_MANIFEST.parquet", manifest)
    storage.create(f"{plan.uri}/_delta_log/{0:020d}.json", _delta_log(plan, parts))
    storage.create(f"{plan.uri}/_SUCCESS.json", json.dumps(asdict(success), sort_keys=True, indent=1).encode())
    return success


def _manifest(parts: Sequence[Part]) -> bytes:
    rows = [{name: getattr(part, name) for name in MANIFEST.names} for part in parts]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=MANIFEST), sink, compression="zstd", write_page_checksum=True)
    return bytes(sink.getvalue())


def _delta_log(plan: Plan, parts: Sequence[Part]) -> bytes:
    """Return version 0 of a Delta table: one action per line (the Delta transaction log protocol, reader version 1)."""
    first = f"{plan.uri}/{parts[0].path}"
    with translated("read", first):
        filesystem, path = storage.arrow_filesystem(first)
        schema = pq.read_schema(path, filesystem=filesystem)
    fields = [
        {"name": field.name, "type": _delta_type(field.type), "nullable": field.nullable, "metadata": {}}
        for field in schema
    ]
    actions: list[dict[str, Any]] = [
        {"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}},
        {
            "metaData": {
                "id": f"{plan.run_id[:8]}-{plan.run_id[8:12]}-{plan.run_id[12:16]}-0000-000000000000",
                "format": {"provider": "parquet", "options": {}},
                "schemaString": json.dumps({"type": "struct", "fields": fields}),
                "partitionColumns": [],
                "configuration": {},
            }
        },
    ]
    actions += [
        {
            "add": {
                "path": quote(part.path),
                "partitionValues": {},
                "size": part.size_bytes,
                "modificationTime": 0,
                "dataChange": True,
                "stats": json.dumps({"numRecords": part.num_rows}),
            }
        }
        for part in parts
    ]
    return "\n".join(json.dumps(action, sort_keys=True) for action in actions).encode()


def _delta_type(kind: pa.DataType) -> str | dict[str, Any]:
    if pa.types.is_list(kind):
        return {"type": "array", "elementType": _delta_type(kind.value_type), "containsNull": True}
    return _DELTA_TYPES[kind]
