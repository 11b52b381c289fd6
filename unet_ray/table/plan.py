"""The plan: which rows a table will hold, cut into shards and units, and the settings that shape them.

A shard is what is sealed: consecutive rows of the plan. A unit is what is computed in one go: consecutive
rows of a shard. Both cuts are the plan's, so results do not depend on workers, retries or block sizes.
"""

import functools
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from unet_ray import storage
from unet_ray.documents import pack_document, unpack_document
from unet_ray.errors import ExistsError, NotFoundError, PlanMismatchError, TableError
from unet_ray.schema import PLAN, SCHEMA_VERSION

_FORMAT = "unet-ray table"
_SHARDS_PER_PART = 8
_FIX = "choose another output, or the settings it was begun with"


@dataclass(frozen=True, order=True, slots=True)
class Unit:
    """Consecutive rows of one shard that are computed together: unit ``index`` of ``shard``."""

    shard: int
    index: int


@dataclass(frozen=True, slots=True, eq=False)
class Units(Sequence[Unit]):
    """Every unit of some shards, in plan order; each is made when it is asked for.

    A plan of 10^8 rows has 10^7 units: as objects they would not fit a driver. ``shards`` is ascending int64;
    ``per_shard`` is the number of units in all of them but the plan's last, and ``missing`` what that one has less.
    """

    shards: NDArray[np.int64]
    per_shard: int
    missing: int

    def __len__(self) -> int:
        return len(self.shards) * self.per_shard - self.missing

    @overload
    def __getitem__(self, index: int) -> Unit: ...
    @overload
    def __getitem__(self, index: slice) -> list[Unit]: ...
    def __getitem__(self, index: int | slice) -> Unit | list[Unit]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        position, unit = divmod(range(len(self))[index], self.per_shard)
        return Unit(int(self.shards[position]), unit)


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """What a plan is to say beside its rows.

    ``kind`` is what the table is (``dataset``, ``predictions``); ``settings`` are JSON values that change results, by
    the key the user types; ``facts`` are JSON values that readers need; ``summed`` names the integer columns that the
    seals sum up; ``shard_rows`` and ``unit_rows`` are the cuts.
    """

    kind: str
    settings: Mapping[str, Any]
    facts: Mapping[str, Any]
    summed: tuple[str, ...]
    shard_rows: int
    unit_rows: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanPart:
    """A file of planned rows: its key under the table's URI and the hash of its bytes."""

    path: str
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A plan that is stored at ``uri``.

    ``settings``, ``facts``, ``summed`` and the cuts are those of its `Terms`. ``run_id`` is a hash of all of them and
    of every row; ``notes`` do not belong to it.
    """

    uri: str
    kind: str
    run_id: str
    settings: Mapping[str, Any]
    facts: Mapping[str, Any]
    notes: Mapping[str, Any]
    summed: tuple[str, ...]
    num_rows: int
    shard_rows: int
    unit_rows: int
    parts: tuple[PlanPart, ...]
    rows_sha256: str
    exclusive: bool = True

    @property
    def num_shards(self) -> int:
        """Number of shards."""
        return -(-self.num_rows // self.shard_rows)

    def shard_size(self, shard: int) -> int:
        """Return the number of rows planned for a shard."""
        return min(self.shard_rows, self.num_rows - shard * self.shard_rows)

    def num_units(self, shard: int) -> int:
        """Return the number of units in a shard."""
        return -(-self.shard_size(shard) // self.unit_rows)

    def units(self, shards: Iterable[int]) -> Units:
        """Return the units of some shards, which are given in ascending order."""
        wanted = np.fromiter(shards, np.int64)
        full, last = -(-self.shard_rows // self.unit_rows), self.num_shards - 1
        missing = full - self.num_units(last) if len(wanted) and wanted[-1] == last else 0
        return Units(wanted, full, missing)

    def unit_size(self, unit: Unit) -> int:
        """Return the number of rows planned for a unit."""
        return min(self.unit_rows, self.shard_size(unit.shard) - unit.index * self.unit_rows)

    def row_ids(self, unit: Unit) -> range:
        """Return the row_ids of a unit."""
        first = unit.shard * self.shard_rows + unit.index * self.unit_rows
        return range(first, first + self.unit_size(unit))

    def read(self, unit: Unit, around: int = 0) -> list[dict[str, Any]]:
        """Return the planned rows of a unit (`schema.PLAN`); runs anywhere, one cached GET per 8 shards.

        Args:
            unit: The unit.
            around: How many rows before and after it to return, too, as far as they are of its first and last group.
        """
        own = self.row_ids(unit)
        rows = self._read_rows(range(own.start, own.stop))
        before = self._read_rows(range(max(0, own.start - around), own.start))
        after = self._read_rows(range(own.stop, min(own.stop + around, self.num_rows)))
        return [
            *(row for row in before if row["group"] and row["group"] == rows[0]["group"]),
            *rows,
            *(row for row in after if row["group"] and row["group"] == rows[-1]["group"]),
        ]

    def read_row(self, row_id: int) -> dict[str, Any]:
        """Return one planned row (`schema.PLAN`); as `read`, without the rest of its unit."""
        (row,) = self._read_rows(range(row_id, row_id + 1))
        return row

    def _read_rows(self, row_ids: range) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        of_part = self.shard_rows * _SHARDS_PER_PART
        while len(rows) < len(row_ids):
            number, first = divmod(row_ids[len(rows)], of_part)
            table = _recent_part(f"{self.uri}/{self.parts[number].path}", self.parts[number].sha256)
            rows += table.slice(first, len(row_ids) - len(rows)).to_pylist()
        return rows

    def scan(self) -> Iterator[pa.Table]:
        """Yield all planned rows in order, a table at a time."""
        for part in self.parts:
            yield _read_part(f"{self.uri}/{part.path}", part.sha256)


def _read_part(uri: str, sha256: str) -> pa.Table:
    data = storage.read_bytes(uri)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise TableError(f"{uri}: the planned rows changed after they were written (sha256 differs); restore the file")
    return pq.read_table(io.BytesIO(data))


_recent_part = functools.lru_cache(maxsize=4)(_read_part)


def begun_plan(uri: str, terms: Terms, *, exclusive: bool = True) -> Plan | None:
    """Return the plan of the job that was begun at ``uri`` and not finished, or None; runs on the driver.

    A job that was cut off goes on with the rows it planned, so its input is not listed again: rows whose files
    changed since are found by their etag, and files that came since are told of when the finished job is repeated.

    Raises:
        PlanMismatchError: The plan there is on other terms, finished or not; the message names what differs.
    """
    found = find_plan(uri)
    if found is None:
        return None
    if difference := _difference(found, json.loads(json.dumps(asdict(terms)))):
        raise PlanMismatchError(difference)
    return None if storage.exists(f"{uri}/_SUCCESS.json") else replace(found, exclusive=exclusive)


def create_plan(
    uri: str, rows: Iterable[Mapping[str, Any]], terms: Terms, *, notes: Mapping[str, Any], exclusive: bool = True
) -> Plan:
    """Store a plan at ``uri``, or take up the equal one that is already there; runs on the driver.

    Args:
        uri: Where the table will lie.
        rows: `schema.PLAN` rows without ``row_id``, in an order that is the same on every call.
        terms: What the plan says beside them.
        notes: JSON values to keep with the plan that do not tell it from others: what was left out of it, and why.
        exclusive: How the files of the table are created (`storage.create`).

    Raises:
        PlanMismatchError: Another plan lies there; the message names what differs.
        TableError: There is not a single row.
    """
    parts: list[PlanPart] = []
    num_rows = 0
    digest = hashlib.sha256()
    source = iter(rows)
    while chunk := list(islice(source, terms.shard_rows * _SHARDS_PER_PART)):
        table = pa.Table.from_pylist(
            [{**row, "row_id": row_id} for row_id, row in enumerate(chunk, start=num_rows)], schema=PLAN
        ).combine_chunks()
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, PLAN) as stream:
            stream.write_table(table)
        content = hashlib.sha256(sink.getvalue()).digest()
        digest.update(content)
        path = f"_plan/part-{len(parts):05d}-{content.hex()[:16]}.parquet"
        parts.append(PlanPart(path=path, sha256=_store_part(f"{uri}/{path}", table, exclusive)))
        num_rows += len(chunk)
    if not num_rows:
        raise TableError(f"{uri}: nothing to plan: the input has 0 rows; check what the job is given to read")
    identity = asdict(terms) | {
        "format": _FORMAT,
        "schema_version": SCHEMA_VERSION,
        "num_rows": num_rows,
        "rows_sha256": digest.hexdigest(),
    }
    run_id = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    data = pack_document(identity | {"run_id": run_id, "parts": [asdict(part) for part in parts], "notes": dict(notes)})
    document = json.loads(data)  # as every later reader will see it: lists, not tuples
    try:
        storage.create(f"{uri}/_PLAN.json", data, exclusive=exclusive)
    except ExistsError:
        found = open_plan(uri)
        if found.run_id != run_id:
            raise PlanMismatchError(_difference(found, document) or _other_rows(found, document)) from None
        return replace(found, exclusive=exclusive)
    return replace(_plan(uri, document), exclusive=exclusive)


def find_plan(uri: str) -> Plan | None:
    """Return the plan stored at ``uri``, whatever its terms, or None.

    Raises:
        TableError: As `open_plan`.
    """
    return open_plan(uri) if storage.exists(f"{uri}/_PLAN.json") else None


def open_plan(uri: str) -> Plan:
    """Return the plan stored at ``uri``.

    Raises:
        TableError: There is none, or it is not one of ours, or it is of another schema version.
    """
    try:
        data = storage.read_bytes(f"{uri}/_PLAN.json")
    except NotFoundError:
        raise TableError(f"{uri}: no table here (_PLAN.json is missing); check the URI or run the job first") from None
    document = unpack_document(data, f"{uri}/_PLAN.json", TableError)
    if document.get("format") != _FORMAT:
        raise TableError(f"{uri}/_PLAN.json: not a plan of unet-ray")
    if document["schema_version"] != SCHEMA_VERSION:
        raise PlanMismatchError(
            f"{uri}: written with schema version {document['schema_version']}, this unet-ray has {SCHEMA_VERSION}; "
            "use the version that wrote it, or another output"
        )
    return _plan(uri, document)


def _plan(uri: str, document: Mapping[str, Any]) -> Plan:
    names = ("kind", "run_id", "settings", "facts", "notes", "num_rows", "shard_rows", "unit_rows", "rows_sha256")
    return Plan(
        uri=uri,
        summed=tuple(document["summed"]),
        parts=tuple(PlanPart(**part) for part in document["parts"]),
        **{name: document[name] for name in names},
    )


def _store_part(uri: str, table: pa.Table, exclusive: bool) -> str:
    """Store planned rows and return the hash of the file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    data = sink.getvalue().to_pybytes()
    try:
        storage.create(uri, data, exclusive=exclusive)
    except ExistsError:
        # The name holds the hash of the rows: the same rows, encoded by another version of the Parquet writer.
        data = storage.read_bytes(uri)
    return hashlib.sha256(data).hexdigest()


def _difference(found: Plan, wanted: Mapping[str, Any]) -> str | None:
    """Return one line that names the first of its `Terms` in which a plan differs from those that are wanted."""
    have = asdict(found)
    if found.kind != wanted["kind"]:
        return f"{found.uri}: holds a table of {found.kind}, not {wanted['kind']}; {_FIX}"
    for group in ("settings", "facts"):
        if named := name_difference(found.uri, have[group], wanted[group], _FIX):
            return named
    cuts = ("shard_rows", "unit_rows")
    return name_difference(found.uri, {k: have[k] for k in cuts}, {k: wanted[k] for k in cuts}, _FIX)


def _other_rows(found: Plan, wanted: Mapping[str, Any]) -> str:
    if found.num_rows != wanted["num_rows"]:
        return f"{found.uri}: was begun with {found.num_rows} rows, the input now has {wanted['num_rows']}; {_FIX}"
    return f"{found.uri}: the input has {found.num_rows} rows as before, but some of them changed since; {_FIX}"


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
