"""A prepared dataset read back: its classes, its statistics, an index of a split, and single pairs by position.

Runs on the driver (`open_dataset`, `index_split`, `iter_split`) and in tasks (`read_pair`). Needs no Ray.
"""

import functools
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, count, groupby
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from unet_ray import storage
from unet_ray.documents import unpack_document
from unet_ray.errors import DatasetError, NotFoundError
from unet_ray.faults import translated
from unet_ray.labels.classes import ClassMap
from unet_ray.schema import OK
from unet_ray.spending import count_read
from unet_ray.table.read import Table, open_table

ROW_GROUP_ROWS = 8
"""Pairs in a row group of a dataset part: what is fetched to read one of them."""

_CACHE_BYTES = 256 * 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """A published dataset with its classes and ``stats.json``."""

    table: Table
    classes: ClassMap
    stats: Mapping[str, Any]

    @property
    def resize(self) -> tuple[int, int] | None:
        """Height and width every pair was resized to, or None."""
        size = self.table.plan.settings["data.resize"]
        return None if size is None else (size[0], size[1])


def open_dataset(uri: str) -> Prepared:
    """Open a prepared dataset.

    Raises:
        TableError: There is none, or it is not complete.
        DatasetError: The table there is not a dataset, or its statistics are damaged or not there yet.
    """
    table = open_table(uri)
    if table.plan.kind != "dataset":
        raise DatasetError(f"{uri}: a table of {table.plan.kind}, not a dataset; check data.dataset")
    classes = ClassMap.from_facts(table.plan.facts)
    try:
        stats = unpack_document(storage.read_bytes(f"{uri}/stats.json"), f"{uri}/stats.json", DatasetError)
    except NotFoundError:
        raise DatasetError(f"{uri}: stats.json is not there; run prepare again to finish the dataset") from None
    return Prepared(table=table, classes=classes, stats=stats)


def index_split(prepared: Prepared, split: str) -> pa.Table:
    """Return the usable pairs of a split in plan order.

    Columns: row_id, image_id, image_uri, group, frame, split, height, width, and where the pair lies:
    ``part`` (int32, position in ``Table.part_uris()``) and ``part_row`` (int64).

    Raises:
        DatasetError: The split holds no usable pair.
    """
    return pa.concat_tables(_index_shards(prepared, split)).combine_chunks()


def iter_split(prepared: Prepared, split: str) -> Iterator[dict[str, Any]]:
    """Return an iterator over the same pairs as rows to plan (`schema.PLAN`), which holds one shard at a time.

    Raises:
        DatasetError: The split holds no usable pair; raised by the call, not by the iterator.
    """
    shards = _index_shards(prepared, split)
    first = next(shards)
    uris = prepared.table.part_uris()
    kept = ("image_id", "image_uri", "group", "frame", "split", "part_row")
    return (
        {name: row[name] for name in kept} | {"part_uri": uris[row["part"]]}
        for shard in chain([first], shards)
        for row in shard.to_pylist()
    )


def _index_shards(prepared: Prepared, split: str) -> Iterator[pa.Table]:
    """Yield the index of each shard that has usable pairs of a split, in plan order, and at least one."""
    columns = ["row_id", "image_id", "image_uri", "group", "frame", "split", "status", "height", "width"]
    parts = zip(prepared.table.manifest["shard"].to_pylist(), count(), prepared.table.scan(columns), strict=False)
    is_empty = True
    for _, of_shard in groupby(parts, key=itemgetter(0)):
        shard = pa.concat_tables(_index_part(part, rows, split) for _, part, rows in of_shard)
        if len(shard):
            is_empty = False
            yield shard.sort_by("row_id")
    if is_empty:
        raise DatasetError(
            f"{prepared.table.uri}: no usable pair in split {split}; choose another split, or prepare again"
        )


def _index_part(part: int, rows: pa.Table, split: str) -> pa.Table:
    located = rows.append_column("part", pa.array(np.full(len(rows), part, np.int32)))
    located = located.append_column("part_row", pa.array(np.arange(len(rows), dtype=np.int64)))
    wanted = pc.and_(pc.equal(rows["split"], split), pc.equal(rows["status"], OK))
    return located.filter(wanted).drop_columns(["status"])


def read_pair(part_uri: str, part_row: int) -> tuple[bytes, bytes]:
    """Return the encoded image and the PNG mask of one pair; one ranged read per row group, cached per process."""
    key = (part_uri, part_row // ROW_GROUP_ROWS)
    rows = _CACHE.get(key)
    if rows is None:
        with translated("read", part_uri):
            rows = _open_part(part_uri).read_row_group(key[1], columns=["image", "mask"])
        _CACHE.put(key, rows)
        count_read(rows.nbytes)
    position = part_row % ROW_GROUP_ROWS
    return rows["image"][position].as_py(), rows["mask"][position].as_py()


@functools.lru_cache(maxsize=512)
def _open_part(uri: str) -> pq.ParquetFile:
    filesystem, path = storage.arrow_filesystem(uri)
    return pq.ParquetFile(filesystem.open_input_file(path), page_checksum_verification=True)


class _RowGroupCache:
    """The row groups used last, up to a number of bytes: small datasets stay in memory after one epoch."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._size = 0
        self._groups: OrderedDict[tuple[str, int], pa.Table] = OrderedDict()

    def get(self, key: tuple[str, int]) -> pa.Table | None:
        if key in self._groups:
            self._groups.move_to_end(key)
        return self._groups.get(key)

    def put(self, key: tuple[str, int], rows: pa.Table) -> None:
        self._groups[key] = rows
        self._size += rows.nbytes
        while self._size > self._limit and len(self._groups) > 1:
            _, dropped = self._groups.popitem(last=False)
            self._size -= dropped.nbytes


_CACHE = _RowGroupCache(_CACHE_BYTES)
