"""Verification: read a published table back and prove that it holds what was planned. Needs no Ray.

Every file of a table is held to a hash or to what others say: the plan, the seals and the mark carry their own, the
plan holds those of its rows, the mark that of the manifest, the seals those of the parts, and the Delta log follows
from the seals.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow.compute as pc

from unet_ray import storage
from unet_ray.documents import unpack_document
from unet_ray.errors import NotFoundError, TableError
from unet_ray.schema import OK
from unet_ray.table.parts import Totals, add_totals, read_part, sum_columns
from unet_ray.table.publish import Success, published_files
from unet_ray.table.read import Table, open_table
from unet_ray.table.seals import read_ledger


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """What `verify` found; ``problems`` is empty when every promise holds."""

    uri: str
    num_rows: int
    num_ok: int
    num_quarantined: int
    num_parts: int
    orphans: tuple[str, ...]
    removed: int
    problems: tuple[str, ...]


def verify(uri: str, *, collect_garbage: bool = False) -> Verification:
    """Re-hash every part, recount every row and recompute every total of a published table.

    Args:
        uri: The table.
        collect_garbage: Also delete the orphans: parts of attempts that did not make it into the manifest.

    Raises:
        TableError: There is no published table, or its plan, manifest or mark is damaged.
    """
    table = open_table(uri)
    problems = list(_compare_seals(table))
    seen: list[np.ndarray] = []
    totals: list[Totals] = []
    num_ok = 0
    names = ("path", "num_rows", "sha256")
    for path, num_rows, sha256 in zip(*(table.manifest[name].to_pylist() for name in names), strict=True):
        try:
            rows = read_part(uri, path, sha256, columns=["row_id", "status", *table.plan.summed])
        except NotFoundError:
            problems.append(f"{path}: missing")
            continue
        except TableError:
            problems.append(f"{path}: changed after it was sealed (sha256 differs)")
            continue
        if len(rows) != num_rows:
            problems.append(f"{path}: {len(rows)} rows, its seal says {num_rows}")
        ok = rows.filter(pc.equal(rows["status"], OK))
        num_ok += len(ok)
        seen.append(rows["row_id"].to_numpy())
        totals.append(sum_columns(ok, table.plan.summed))
    problems += _compare_rows(table, np.concatenate(seen) if seen else np.empty(0, np.int64))
    if num_ok != table.success.num_ok:
        problems.append(f"ok rows: {num_ok} found, {table.success.num_ok} published")
    recomputed = add_totals(totals)
    problems += [
        f"totals: {name} differs from the rows"
        for name in table.plan.summed
        if list(table.success.totals.get(name, [])) != recomputed.get(name, [])
    ]
    listed = set(table.manifest["path"].to_pylist())
    orphans = sorted(
        f"data/{item.key}" for item in storage.list_objects(f"{uri}/data") if f"data/{item.key}" not in listed
    )
    if collect_garbage and not problems:
        for path in orphans:
            storage.delete(f"{uri}/{path}")
    return Verification(
        uri=uri,
        num_rows=sum(len(ids) for ids in seen),
        num_ok=num_ok,
        num_quarantined=sum(len(ids) for ids in seen) - num_ok,
        num_parts=len(listed),
        orphans=tuple(orphans),
        removed=len(orphans) if collect_garbage and not problems else 0,
        problems=tuple(problems),
    )


def _compare_seals(table: Table) -> Iterator[str]:
    """Make what was published anew from the seals, and say where it differs from what is there."""
    try:
        ledger = read_ledger(table.plan)
        expected = published_files(table.plan, ledger)
    except (NotFoundError, TableError) as error:
        yield str(error)
        return
    listed = {row.pop("path"): row for row in table.manifest.to_pylist()}
    sealed: dict[str, dict[str, object]] = {}
    for shard, parts in ledger.shards.items():
        for part in parts:
            row: dict[str, object] = {"shard": shard, **asdict(part)}
            sealed[str(row.pop("path"))] = row
    if listed != sealed:
        yield "_MANIFEST.parquet: lists other parts than the seals"
    success = unpack_document(expected["_SUCCESS.json"], table.uri, TableError)
    if Success(**success | {"manifest_sha256": table.success.manifest_sha256}) != table.success:
        yield "_SUCCESS.json: differs from what the seals add up to"
    for name in expected.keys() - {"_MANIFEST.parquet", "_SUCCESS.json"}:
        try:
            same = storage.read_bytes(f"{table.uri}/{name}") == expected[name]
        except NotFoundError:
            same = False
        if not same:
            yield f"{name}: missing, or differs from what the seals say"


def _compare_rows(table: Table, found: np.ndarray) -> list[str]:
    unique = np.unique(found)
    problems = []
    if len(unique) < len(found):
        problems.append(f"rows: {len(found) - len(unique)} stand more than once")
    planned = np.concatenate([rows["row_id"].to_numpy() for rows in table.plan.scan()] or [np.empty(0, np.int64)])
    missing, extra = np.setdiff1d(planned, unique), np.setdiff1d(unique, planned)
    if len(missing):
        problems.append(f"rows: {len(missing)} of {table.plan.num_rows} missing, first row_id {missing[0]}")
    if len(extra):
        problems.append(f"rows: {len(extra)} were never planned, first row_id {extra[0]}")
    return problems
