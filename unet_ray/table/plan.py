"""The plan: which rows a table will hold, cut into shards and units, and the settings that shape them.

A shard is what is sealed: consecutive rows of the plan. A unit is what is computed in one go: consecutive
rows of a shard. Both cuts are the plan's, so results do not depend on workers, retries or block sizes.
"""

import functools
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from unet_ray import storage
from unet_ray.errors import ExistsError, NotFoundError, PlanMismatchError, TableError
from unet_ray.faults import translated
from unet_ray.schema import PLAN, SCHEMA_VERSION

_FORMAT = "unet-ray table"
_SHARDS_PER_PART = 8


@dataclass(frozen=True, order=True, slots=True)
class Unit:
    """Consecutive rows of one shard that are computed together: unit ``index`` of ``shard``."""

    shard: int
    index: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A plan that is stored at ``uri``.

    ``settings`` are the choices that change results, by the key the user types; ``facts`` is what readers
    need to know (class names, palette, encodings). ``summed`` names the integer columns whose sums stand in
    the seals. ``run_id`` is a hash of all of it and of every row.
    """

    uri: str
    kind: str
    run_id: str
    settings: Mapping[str, Any]
    facts: Mapping[str, Any]
    summed: tuple[str, ...]
    num_rows: int
    shard_rows: int
    unit_rows: int
    parts: tuple[str, ...]
    rows_sha256: str

    @property
    def num_shards(self) -> int:
        """Number of shards."""
        return -(-self.num_rows // self.shard_rows)

    def shard_size(self, shard: int) -> int:
        """Return the number of rows planned for a shard."""
        return min(self.shard_rows, self.num_rows - shard * self.shard_rows)

    def units(self, shard: int) -> list[Unit]:
        """Return the units of a shard, in plan order."""
        return [Unit(shard, index) for index in range(-(-self.shard_size(shard) // self.unit_rows))]

    def unit_size(self, unit: Unit) -> int:
        """Return the number of rows planned for a unit."""
        return min(self.unit_rows, self.shard_size(unit.shard) - unit.index * self.unit_rows)

    def read(self, unit: Unit) -> list[dict[str, Any]]:
        """Return the planned rows of a unit (`schema.PLAN`); runs anywhere, one cached GET per 8 shards."""
        part, offset = divmod(unit.shard, _SHARDS_PER_PART)
        first = offset * self.shard_rows + unit.index * self.unit_rows
        table = _read_part(f"{self.uri}/{self.parts[part]}")
        rows: list[dict[str, Any]] = table.slice(first, self.unit_size(unit)).to_pylist()
        return rows

    def scan(self) -> Iterator[pa.Table]:
        """Yield all planned rows in order, a table at a time."""
        for part in self.parts:
            yield _read_part(f"{self.uri}/{part}")


@functools.lru_cache(maxsize=4)
def _read_part(uri: str) -> pa.Table:
    data = storage.read_bytes(uri)
    with translated("read", uri):
        return pq.read_table(io.BytesIO(data), page_checksum_verification=True)


def create_plan(
    uri: str,
    rows: Iterable[Mapping[str, Any]],
    *,
    kind: str,
    settings: Mapping[str, Any],
    facts: Mapping[str, Any],
    summed: tuple[str, ...],
    shard_rows: int,
    unit_rows: int,
) -> Plan:
    """Store a plan at ``uri``, or take up the equal one that is already there; runs on the driver.

    Args:
        uri: Where the table will lie.
        rows: `schema.PLAN` rows without ``row_id``, in an order that is the same on every call.
        kind: What the table is (``dataset``, ``predictions``).
        settings: JSON values that change results, by the key the user types.
        facts: JSON values that readers need.
        summed: Integer columns that the seals sum up.
        shard_rows: Rows in a shard.
        unit_rows: Rows in a unit.

    Raises:
        PlanMismatchError: Another plan lies there; the message names what differs.
    """
    parts: list[str] = []
    num_rows = 0
    digest = hashlib.sha256()
    source = iter(rows)
    while chunk := list(islice(source, shard_rows * _SHARDS_PER_PART)):
        table = pa.Table.from_pylist(
            [{**row, "row_id": row_id} for row_id, row in enumerate(chunk, start=num_rows)], schema=PLAN
        ).combine_chunks()
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, PLAN) as stream:
            stream.write_table(table)
        content = hashlib.sha256(sink.getvalue()).digest()
        digest.update(content)
        parts.append(f"_plan/part-{len(parts):05d}-{content.hex()[:16]}.parquet")
        _store_part(f"{uri}/{parts[-1]}", table)
        num_rows += len(chunk)
    body: dict[str, Any] = {
        "format": _FORMAT,
        "schema_version": SCHEMA_VERSION,
        "kind": kind,
        "settings": dict(settings),
        "facts": dict(facts),
        "summed": list(summed),
        "num_rows": num_rows,
        "shard_rows": shard_rows,
        "unit_rows": unit_rows,
        "rows_sha256": digest.hexdigest(),
    }
    run_id = hashlib.sha256(_json(body)).hexdigest()[:16]
    data = _json(body | {"run_id": run_id, "parts": parts})
    document = json.loads(data)  # as every later reader will see it: lists, not tuples
    try:
        storage.create(f"{uri}/_PLAN.json", data)
    except ExistsError:
        found = open_plan(uri)
        if found.run_id != run_id:
            raise PlanMismatchError(_difference(found, document)) from None
        return found
    return _plan(uri, document)


def open_plan(uri: str) -> Plan:
    """Return the plan stored at ``uri``.

    Raises:
        TableError: There is none, or it is not one of ours, or it is of another schema version.
    """
    try:
        document = json.loads(storage.read_bytes(f"{uri}/_PLAN.json"))
    except NotFoundError:
        raise TableError(f"{uri}: no table here (_PLAN.json is missing); check the URI or run the job first") from None
    except ValueError as error:
        raise TableError(f"{uri}/_PLAN.json: not valid JSON: {error}") from error
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        raise TableError(f"{uri}/_PLAN.json: not a plan of unet-ray")
    if document["schema_version"] != SCHEMA_VERSION:
        raise PlanMismatchError(
            f"{uri}: written with schema version {document['schema_version']}, this unet-ray has {SCHEMA_VERSION}; "
            "use the version that wrote it, or another output"
        )
    return _plan(uri, document)


def _plan(uri: str, document: Mapping[str, Any]) -> Plan:
    names = ("kind", "run_id", "settings", "facts", "num_rows", "shard_rows", "unit_rows", "rows_sha256")
    return Plan(
        uri=uri,
        summed=tuple(document["summed"]),
        parts=tuple(document["parts"]),
        **{name: document[name] for name in names},
    )


def _store_part(uri: str, table: pa.Table) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    try:
        storage.create(uri, sink.getvalue().to_pybytes())
    except ExistsError:
        # The name holds the hash of the rows: the same rows, encoded by another version of the Parquet writer.
        return


def _difference(found: Plan, wanted: Mapping[str, Any]) -> str:
    """Return one line that names the first thing in which two plans differ."""
    fix = "choose another output, or the settings it was begun with"
    have = asdict(found)
    if found.kind != wanted["kind"]:
        return f"{found.uri}: holds a table of {found.kind}, not {wanted['kind']}; {fix}"
    for group in ("settings", "facts"):
        if named := name_difference(found.uri, have[group], wanted[group], fix):
            return named
    if found.num_rows != wanted["num_rows"]:
        return f"{found.uri}: was begun with {found.num_rows} rows, the input now has {wanted['num_rows']}; {fix}"
    cuts = ("shard_rows", "unit_rows")
    if named := name_difference(found.uri, {k: have[k] for k in cuts}, {k: wanted[k] for k in cuts}, fix):
        return named
    return f"{found.uri}: the input has {found.num_rows} rows as before, but some of them changed since; {fix}"


def name_difference(uri: str, begun: Mapping[str, Any], wanted: Mapping[str, Any], fix: str) -> str | None:
    """Return one line that names the first key in which two sets of JSON values differ, or None when they are equal."""
    for key in sorted({*begun, *wanted}):
        old, new = begun.get(key), wanted.get(key)
        if old != new:
            return f"{key}: {uri} was begun with {_short(old)}, this job has {_short(new)}; {fix}"
    return None


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, indent=1, ensure_ascii=False).encode()
