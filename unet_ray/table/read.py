"""Reading a published table: only what its manifest lists, and never anything unpublished."""

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from unet_ray import storage
from unet_ray.errors import TableError
from unet_ray.faults import translated
from unet_ray.table.plan import Plan, open_plan
from unet_ray.table.publish import Success, read_success


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """A published table: its plan, its summary and the list of its parts (`schema.MANIFEST`)."""

    uri: str
    plan: Plan
    success: Success
    manifest: pa.Table

    def part_uris(self) -> list[str]:
        """Return the URI of every part, in shard order."""
        return [f"{self.uri}/{path}" for path in self.manifest["path"].to_pylist()]

    def scan(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield some columns of each part, in shard order; only these columns are fetched."""
        filesystem, _ = storage.arrow_filesystem(self.uri)
        for uri in self.part_uris():
            with translated("read", uri):
                _, path = storage.arrow_filesystem(uri)
                rows = pq.read_table(
                    path, columns=list(columns), filesystem=filesystem, page_checksum_verification=True
                )
            yield rows

    def read(self, columns: Sequence[str]) -> pa.Table:
        """Return some columns of all rows, in plan order."""
        rows = pa.concat_tables(self.scan(list(dict.fromkeys(["row_id", *columns]))))
        return rows.sort_by("row_id").select(list(columns))


def open_table(uri: str) -> Table:
    """Open a published table.

    Raises:
        TableError: There is no table, it is not complete yet, or its manifest is damaged.
    """
    plan = open_plan(uri)
    success = read_success(uri)
    if success is None:
        raise TableError(
            f"{uri}: this table of {plan.kind} is not complete; run the job that writes it again to finish it"
        )
    data = storage.read_bytes(f"{uri}/_MANIFEST.parquet")
    if hashlib.sha256(data).hexdigest() != success.manifest_sha256:
        raise TableError(f"{uri}/_MANIFEST.parquet: changed after it was published (sha256 differs); restore it")
    return Table(uri=uri, plan=plan, success=success, manifest=pq.read_table(io.BytesIO(data)))


def open_predictions(uri: str, rule: str) -> Table:
    """Open a published table of predictions, for a command that takes no other, as ``rule`` says.

    Raises:
        TableError: As `open_table`, or the table is another.
    """
    table = open_table(uri)
    if table.plan.kind != "predictions":
        raise TableError(f"{uri}: a table of {table.plan.kind}; {rule}")
    return table
