"""Publishing: the manifest, the Delta log and, last, the mark that says the table is complete.

Every byte follows from the plan and the seals alone, so two drivers that publish write the same objects.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from unet_ray import storage
from unet_ray.documents import pack_document, unpack_document
from unet_ray.errors import NotFoundError, TableError
from unet_ray.faults import translated
from unet_ray.schema import MANIFEST
from unet_ray.table.parts import Totals
from unet_ray.table.plan import Plan
from unet_ray.table.seals import Ledger, SealedPart

_DELTA_TYPES = {
    pa.int64(): "long",
    pa.int32(): "integer",
    pa.float64(): "double",
    pa.string(): "string",
    pa.large_binary(): "binary",
}


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
    """Return the mark of a published table, or None when it is not published.

    Raises:
        TableError: The mark is damaged.
    """
    mark = f"{uri}/_SUCCESS.json"
    try:
        return Success(**unpack_document(storage.read_bytes(mark), mark, TableError))
    except NotFoundError:
        return None


def publish(plan: Plan, ledger: Ledger) -> Success:
    """Make a complete table visible; repeating it, even from another driver, changes nothing.

    Args:
        plan: The stored plan.
        ledger: All its seals.

    Raises:
        TableError: Planned rows are not the sum of ok and quarantined rows, or a part is gone.
    """
    quarantined = ledger.errors.total()
    if ledger.num_ok + quarantined != plan.num_rows:
        raise TableError(
            f"{plan.uri}: {plan.num_rows} rows planned, {ledger.num_ok} ok + {quarantined} quarantined; not published"
        )
    _check_parts(plan, ledger)
    files = published_files(plan, ledger)
    for name, data in files.items():
        storage.create(f"{plan.uri}/{name}", data, exclusive=plan.exclusive)
    return Success(**unpack_document(files["_SUCCESS.json"], plan.uri, TableError))


def published_files(plan: Plan, ledger: Ledger) -> dict[str, bytes]:
    """Return the files that publish a table by their key under its URI, in the order in which they are written."""
    manifest = _manifest(ledger)
    success = Success(
        run_id=plan.run_id,
        num_rows=ledger.num_rows,
        num_ok=ledger.num_ok,
        num_quarantined=ledger.errors.total(),
        errors=dict(sorted(ledger.errors.items())),
        totals=ledger.totals,
        num_parts=sum(len(parts) for parts in ledger.shards.values()),
        manifest_sha256=hashlib.sha256(manifest).hexdigest(),
    )
    return {
        "_MANIFEST.parquet": manifest,
        f"_delta_log/{0:020d}.json": _delta_log(plan, ledger),
        "_SUCCESS.json": pack_document(asdict(success)),
    }


def _check_parts(plan: Plan, ledger: Ledger) -> None:
    """See that every part which counts is still there as it was sealed; one listing, no reading."""
    sizes = {part.path: part.size_bytes for _, part in _parts(ledger)}
    for item in storage.list_objects(f"{plan.uri}/data"):
        if sizes.get(f"data/{item.key}") == item.size_bytes:
            del sizes[f"data/{item.key}"]
    if sizes:
        path = min(sizes)
        shard = path.split("/")[1]
        raise TableError(
            f"{plan.uri}/{path}: this part was sealed, but is gone or of another size; not published; restore it, or "
            f"delete _seals/{shard}.json and run the same command again to redo its rows"
        )


def _parts(ledger: Ledger) -> Iterator[tuple[int, SealedPart]]:
    """Yield every part that counts with its shard, in shard order."""
    for shard in sorted(ledger.shards):
        for part in ledger.shards[shard]:
            yield shard, part


def _manifest(ledger: Ledger) -> bytes:
    rows = [{"shard": shard, **asdict(part)} for shard, part in _parts(ledger)]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=MANIFEST), sink, compression="zstd", write_page_checksum=True)
    return bytes(sink.getvalue())


def _delta_log(plan: Plan, ledger: Ledger) -> bytes:
    """Return version 0 of a Delta table: one action per line (the Delta transaction log protocol, reader version 1)."""
    first = f"{plan.uri}/{next(_parts(ledger))[1].path}"
    try:
        with translated("read", first):
            filesystem, path = storage.arrow_filesystem(first)
            schema = pq.read_schema(path, filesystem=filesystem)
    except pa.ArrowException as error:
        raise TableError(f"{first}: not a readable Parquet file: {error}") from None
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
        for _, part in _parts(ledger)
    ]
    return "\n".join(json.dumps(action, sort_keys=True) for action in actions).encode()


def _delta_type(kind: pa.DataType) -> str | dict[str, Any]:
    if pa.types.is_list(kind):
        return {"type": "array", "elementType": _delta_type(kind.value_type), "containsNull": True}
    if kind not in _DELTA_TYPES:
        raise TableError(f"a column of type {kind} cannot stand in a Delta table")
    return _DELTA_TYPES[kind]
