"""``unet-ray query``: SQL over a published table, with views that are ready made (`predictions.sql`, `dataset.sql`).

DuckDB asks, pyarrow reads, so that a table in a store is reached as all else is; only the columns and row groups that a
question needs are fetched. SQL has no way to other files. Needs no Ray.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.dataset as ds

from unet_ray import storage
from unet_ray.columns import align
from unet_ray.errors import ConfigError, TableError
from unet_ray.table.read import Table, open_table

if TYPE_CHECKING:
    import duckdb

_SHOWN = 100
_VIEWS = ("frames", "classes", "by_group", "quarantine")


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a question brought: names of its columns, and rows of plain values."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


def select_rows(table: Table, where: str) -> list[int]:
    """Return the row_ids of the ``frames`` of a table for which a condition holds.

    Raises:
        ConfigError: As `run`.
    """
    answer = _ask(table, f"SELECT row_id FROM frames WHERE {where}")
    return [row_id for (row_id,) in answer.rows]


def run(uri: str, sql: str) -> Answer:
    """Answer a question about a table, and print the answer to standard error, its first hundred rows.

    Args:
        uri: A dataset or predictions.
        sql: A SELECT over the views ``frames``, ``classes``, ``by_group`` and ``quarantine``, or over ``rows``, the
            table itself (`schema.DATASET`, `schema.PREDICTION`).

    Raises:
        ConfigError: DuckDB is not installed, or does not understand the question.
        TableError: There is no published table.
    """
    answer = _ask(open_table(uri), sql)
    shown = [[_shown(value) for value in row] for row in answer.rows[:_SHOWN]]
    more = [f"and {len(answer.rows) - _SHOWN} more rows"] if len(answer.rows) > _SHOWN else []
    sys.stderr.write("\n".join([*align([answer.columns, *shown]), *more]) + "\n" if answer.columns else "")
    return answer


def _ask(table: Table, sql: str) -> Answer:
    try:
        import duckdb
    except ImportError:
        raise ConfigError("query: needs DuckDB, which is not installed: pip install 'unet-ray[query]'") from None
    with duckdb.connect(":memory:") as connection:
        _make_views(connection, table)
        try:
            found = connection.execute(sql)
            names = [column[0] for column in found.description or ()]
            rows = [tuple(map(_plain, row)) for row in found.fetchall()]
        except duckdb.Error as error:
            said = " ".join(str(error).split())
            raise ConfigError(f"query: {said}; views are {', '.join(_VIEWS)}, the table itself is rows") from None
    return Answer(columns=tuple(names), rows=tuple(rows))


def _make_views(connection: "duckdb.DuckDBPyConnection", table: Table) -> None:
    script = Path(__file__).with_name(f"{table.plan.kind}.sql")
    if not script.exists():
        raise TableError(f"{table.uri}: a table of {table.plan.kind}; query takes a dataset or predictions")
    filesystem, _ = storage.arrow_filesystem(table.uri)
    paths = [storage.arrow_filesystem(uri)[1] for uri in table.part_uris()]
    connection.register("rows", ds.dataset(paths, filesystem=filesystem, format="parquet"))
    connection.execute("CREATE TABLE class_names (class_id INTEGER, name VARCHAR)")
    for class_id, name in enumerate(table.plan.facts["classes"]):
        connection.execute("INSERT INTO class_names VALUES (?, ?)", [class_id, name])
    connection.execute(script.read_text())
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _plain(value: Any) -> Any:
    """Return a value that JSON knows: bytes as their number, what is neither number, text nor list as text."""
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
