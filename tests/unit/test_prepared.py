import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from tests.unit.image_files import POLICY
from tests.unit.inline_table import begin, finish
from tests.unit.tiny_dataset import CLASSES, list_pairs_of, prepare_here
from unet_ray.datasets.prepared import Prepared, _RowGroupCache, index_split, iter_split, open_dataset, read_pair
from unet_ray.errors import DatasetError, NotFoundError, TableError
from unet_ray.images.decode import decode_mask, decode_plain
from unet_ray.schema import DATASET
from unet_ray.table.commit import QuarantineLimits, fill
from unet_ray.table.parts import Part, write_part
from unet_ray.table.plan import Unit
from unet_ray.table.read import open_table


def test_a_dataset_opens_with_its_classes_and_statistics(dataset_uri: str) -> None:
    prepared = open_dataset(dataset_uri)
    assert prepared.classes == CLASSES
    assert prepared.resize is None
    assert prepared.stats["splits"]["train"]["ok"] == 11
    assert prepared.table.success.num_rows == 22


def test_a_dataset_knows_the_size_it_was_resized_to(pairs_folder: Path, tmp_path: Path) -> None:
    prepare_here(f"{tmp_path}/dataset", list_pairs_of(pairs_folder), resize=(16, 32))
    prepared = open_dataset(f"{tmp_path}/dataset")
    assert prepared.resize == (16, 32)
    assert set(
        zip(*(index_split(prepared, "train")[name].to_pylist() for name in ("height", "width")), strict=True)
    ) == {(16, 32)}


def test_an_index_holds_the_usable_pairs_of_a_split_in_plan_order(dataset_uri: str) -> None:
    index = index_split(open_dataset(dataset_uri), "val")
    usable = [number for number in range(11) if number not in (3, 5)]
    assert index["image_id"].to_pylist() == [f"images/right/{number}.png" for number in usable]
    assert index["row_id"].to_pylist() == [11 + number for number in usable]
    assert index["frame"].to_pylist() == usable
    assert set(index["split"].to_pylist()) == {"val"}
    assert index["width"].to_pylist() == [28] + [24] * 8
    assert index.schema.field("part").type == pa.int32()
    assert index.schema.field("part_row").type == pa.int64()


def test_every_indexed_pair_is_read_where_the_index_says(dataset_uri: str, pairs_folder: Path) -> None:
    prepared = open_dataset(dataset_uri)
    parts = prepared.table.part_uris()
    assert len(parts) == 2
    for split in ("val", "train"):
        index = index_split(prepared, split)
        rows = list(zip(*(index[name].to_pylist() for name in ("image_id", "part", "part_row", "frame")), strict=True))
        for image_id, part, part_row, frame in rows[::-1]:
            image, mask = read_pair(parts[part], part_row)
            assert image == (pairs_folder / image_id).read_bytes()
            assert decode_plain(image)[0, 0, 0] == frame
            ids = decode_mask(mask, POLICY)
            assert (ids == 2).sum() == frame
            assert (ids[:2] == 255).all()


def test_an_empty_split_is_refused(dataset_uri: str) -> None:
    with pytest.raises(DatasetError, match=r"no usable pair in split test; choose another split, or prepare again"):
        index_split(open_dataset(dataset_uri), "test")
    with pytest.raises(DatasetError, match=r"no usable pair in split test; choose another split, or prepare again"):
        iter_split(open_dataset(dataset_uri), "test")


@pytest.fixture
def scattered(tmp_path: Path) -> Prepared:
    """A dataset whose shards are of two parts each, with their rows in disorder; every other row trains."""
    uri = f"{tmp_path}/scattered"
    names = ("image_id", "image_uri", "group")
    planned = [
        dict.fromkeys(names, str(number)) | {"frame": number, "split": ("val", "train")[number % 2]}
        for number in range(40)
    ]
    plan = begin(uri, planned, kind="dataset", shard_rows=8, unit_rows=2, summed=())

    def produce(units: Sequence[Unit]) -> Iterator[Part]:
        for shard in range(plan.num_shards):
            for parity in (1, 0):
                chosen = [unit for unit in units if unit.shard == shard and unit.index % 2 == parity]
                rows = [row | {"status": "ok"} for unit in chosen[::-1] for row in plan.read(unit)[::-1]]
                yield write_part(plan, chosen, pa.Table.from_pylist(rows, schema=DATASET))

    fill(plan, produce, limits=QuarantineLimits(fraction=0.0))
    return Prepared(table=open_table(uri), classes=CLASSES, stats={})


def test_the_rows_of_a_split_are_planned_as_they_are_indexed(scattered: Prepared) -> None:
    index = index_split(scattered, "train")
    assert index["row_id"].to_pylist() == list(range(1, 40, 2))
    uris = scattered.table.part_uris()
    kept = ("image_id", "image_uri", "group", "frame", "split", "part_row")
    wanted = [{name: row[name] for name in kept} | {"part_uri": uris[row["part"]]} for row in index.to_pylist()]
    assert list(iter_split(scattered, "train")) == wanted


def test_where_there_is_no_dataset_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=str(tmp_path)):
        open_dataset(str(tmp_path))


def test_a_table_of_something_else_is_not_taken_for_a_dataset(tmp_path: Path) -> None:
    uri = f"{tmp_path}/predictions"
    finish(begin(uri))
    with pytest.raises(DatasetError, match=r"predictions: a table of predictions, not a dataset; check data\.dataset"):
        open_dataset(uri)


def test_a_dataset_whose_job_died_before_the_statistics_says_how_to_go_on(dataset_uri: str, tmp_path: Path) -> None:
    uri = f"{tmp_path}/dataset"
    shutil.copytree(dataset_uri, uri)
    (tmp_path / "dataset/stats.json").unlink()
    with pytest.raises(DatasetError, match=r"stats\.json is not there; run prepare again to finish the dataset"):
        open_dataset(uri)


def test_statistics_with_a_changed_byte_are_refused(dataset_uri: str, tmp_path: Path) -> None:
    uri = f"{tmp_path}/dataset"
    shutil.copytree(dataset_uri, uri)
    stats = tmp_path / "dataset/stats.json"
    stats.write_bytes(stats.read_bytes().replace(b'"mean"', b'"meam"'))
    with pytest.raises(DatasetError, match=r"stats\.json: the file changed after it was written"):
        open_dataset(uri)


def test_a_part_that_is_gone_is_named(dataset_uri: str) -> None:
    with pytest.raises(NotFoundError, match=r"could not read .*/data/none\.parquet: there is no such file"):
        read_pair(f"{dataset_uri}/data/none.parquet", 0)


def test_the_cache_of_row_groups_drops_the_one_used_longest_ago() -> None:
    group = pa.table({"image": pa.array([b"x" * 1000], pa.large_binary())})
    cache = _RowGroupCache(2 * group.nbytes)
    cache.put(("part", 0), group)
    cache.put(("part", 1), group)
    assert cache.get(("part", 0)) is group
    cache.put(("part", 2), group)
    assert [cache.get(("part", number)) for number in range(3)] == [group, None, group]


def test_the_cache_keeps_a_row_group_that_alone_is_over_the_limit() -> None:
    group = pa.table({"image": pa.array([b"x" * 1000], pa.large_binary())})
    cache = _RowGroupCache(10)
    for number in range(2):
        cache.put(("part", number), group)
        assert cache.get(("part", number)) is group
    assert cache.get(("part", 0)) is None
