"""Parts: the immutable Parquet files of a table, written by tasks, and the messages they send the driver."""

import hashlib
import io
import json
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from unet_ray import storage
from unet_ray.errors import TableError
from unet_ray.schema import OK
from unet_ray.table.plan import Plan, Unit

Totals = Mapping[str, Sequence[int]]
"""Sums of integer columns over ok rows; a scalar column sums to a list of one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A part as a task reports it: a commit message. It counts only once a seal lists it.

    ``num_pixels`` are those of its ok rows.
    """

    path: str
    shard: int
    units: tuple[int, ...]
    size_bytes: int
    sha256: str
    num_rows: int
    num_ok: int
    num_pixels: int
    errors: Mapping[str, int]
    totals: Totals

    def to_json(self) -> str:
        """Return the message as JSON."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> "Part":
        """Return the message that `to_json` wrote."""
        document = json.loads(text)
        return Part(**{**document, "units": tuple(document["units"])})


def write_part(plan: Plan, units: Sequence[Unit], rows: pa.Table, *, row_group_rows: int | None = None) -> Part:
    """Write the rows of some units of one shard as one part: one PUT; runs in tasks.

    The name is unique to this attempt, so that a retried task never touches what another one wrote.

    Args:
        plan: The plan the units belong to.
        units: Units of one shard.
        rows: Their rows, as many as planned.
        row_group_rows: Rows in a row group: what a reader of single rows has to fetch.

    Raises:
        TableError: The rows are not those that the plan has for the units.
    """
    (shard,) = {unit.shard for unit in units}
    planned = sorted(row_id for unit in units for row_id in plan.row_ids(unit))
    found = rows["row_id"].to_pylist()
    if sorted(found) != planned:
        raise TableError(f"{plan.uri}: a task returned rows {found[:3]}... where the plan has {planned[:3]}...")
    sink = pa.BufferOutputStream()
    texts = [field.name for field in rows.schema if pa.types.is_string(field.type)]
    pq.write_table(
        rows,
        sink,
        compression="zstd",
        use_dictionary=texts,
        write_page_checksum=True,
        row_group_size=row_group_rows,
    )
    data = sink.getvalue().to_pybytes()
    path = f"data/{shard:06d}/{uuid.uuid4().hex[:12]}-{planned[0]:09d}.parquet"
    storage.write(f"{plan.uri}/{path}", data)  # under a name of its own: there is nothing to replace
    ok = rows.filter(pc.equal(rows["status"], OK))
    return Part(
        path=path,
        shard=shard,
        units=tuple(sorted(unit.index for unit in units)),
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        num_rows=len(rows),
        num_ok=len(ok),
        num_pixels=pc.sum(pc.multiply(ok["height"].cast(pa.int64()), ok["width"])).as_py() or 0,
        errors=count_errors(rows),
        totals=sum_columns(ok, plan.summed),
    )


def read_part(uri: str, path: str, sha256: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a part and check it against its seal.

    Raises:
        TableError: The bytes are not those that were sealed.
    """
    data = storage.read_bytes(f"{uri}/{path}")
    if hashlib.sha256(data).hexdigest() != sha256:
        raise TableError(
            f"{uri}/{path}: the file changed after it was sealed (sha256 differs); restore it or redo the job"
        )
    return pq.read_table(io.BytesIO(data), columns=columns)


def count_errors(rows: pa.Table) -> dict[str, int]:
    """Return the number of quarantined rows by error code."""
    return dict(sorted(Counter(code for code in rows["error_code"].to_pylist() if code is not None).items()))


def sum_columns(rows: pa.Table, columns: Sequence[str]) -> dict[str, list[int]]:
    """Return exact integer sums of integer and list-of-integer columns; null cells add nothing."""
    totals: dict[str, list[int]] = {}
    for name in columns:
        cells = [cell for cell in rows[name].to_pylist() if cell is not None]
        totals[name] = np.atleast_1d(np.sum(cells, axis=0, dtype=np.int64)).tolist() if cells else []
    return totals


def add_totals(parts: Sequence[Totals]) -> dict[str, list[int]]:
    """Add sums up, column by column; an empty list adds nothing."""
    added: dict[str, list[int]] = {}
    for totals in parts:
        for name, values in totals.items():
            have = added.get(name) or [0] * len(values)
            added[name] = [a + b for a, b in zip(have, values, strict=True)] if values else added.get(name, [])
    return added


def rows_to_cell(rows: pa.Table) -> pa.LargeBinaryArray:
    """Pack the rows of a unit into one cell, so that no block split can tear a unit apart; return a column of it."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_table(rows)
    data = sink.getvalue()
    ends = pa.py_buffer(np.array([0, data.size], np.int64))
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, ends, data])


def rows_from_cell(cell: pa.LargeBinaryScalar) -> pa.Table:
    """Unpack `rows_to_cell`, without a copy."""
    return pa.ipc.open_stream(cell.as_buffer()).read_all()
