import json
from pathlib import Path

import deltalake
import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests.unit.inline_table import (
    BAD_ROWS,
    NUM_CLASSES,
    begin,
    expected_rows,
    finish,
    predict_rows,
    produce,
    write_unit,
)
from unet_ray import storage
from unet_ray.errors import StorageError, TableError
from unet_ray.schema import MANIFEST, PREDICTION
from unet_ray.table.commit import QuarantineLimits, fill
from unet_ray.table.parts import write_part
from unet_ray.table.plan import Unit
from unet_ray.table.read import Table, open_table


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    """A table that two attempts wrote, in the wrong order, with orphans."""
    plan = begin(f"{tmp_path_factory.mktemp('readers')}/two words/t")
    write_unit(plan, Unit(1, 0))
    fill(plan, lambda units: produce(plan, units[::-1]), limits=QuarantineLimits(fraction=0.5))
    return open_table(plan.uri)


def test_there_must_be_a_table(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=rf"{tmp_path}/none: no table here .*check the URI or run the job first"):
        open_table(f"{tmp_path}/none")


def test_a_table_without_its_mark_is_refused(tmp_path: Path) -> None:
    plan = begin(f"{tmp_path}/t")
    for _ in range(2):
        with pytest.raises(TableError, match=rf"{plan.uri}: this table of predictions is not complete; run the job"):
            open_table(plan.uri)
        finish(plan)
        storage.delete(f"{plan.uri}/_SUCCESS.json")


def test_a_table_whose_manifest_changed_is_refused(tmp_path: Path) -> None:
    plan = begin(f"{tmp_path}/t")
    finish(plan)
    path = Path(f"{plan.uri}/_MANIFEST.parquet")
    path.write_bytes(path.read_bytes().replace(b"data/", b"dat4/", 1))
    with pytest.raises(TableError, match=rf"{path}: changed after it was published \(sha256 differs\)"):
        open_table(plan.uri)


def test_rows_are_read_in_plan_order_whatever_order_they_were_written_in(table: Table) -> None:
    assert table.read(PREDICTION.names).equals(expected_rows())


def test_rows_are_read_in_plan_order_also_where_a_part_holds_them_in_another(tmp_path: Path) -> None:
    plan = begin(f"{tmp_path}/t", unit_rows=4)
    parts = [
        write_part(plan, [unit], predict_rows(plan.read(unit)[::-1])) for unit in (Unit(0, 0), Unit(1, 0), Unit(2, 0))
    ]
    fill(plan, lambda units: parts[::-1], limits=QuarantineLimits(fraction=0.5))
    assert open_table(plan.uri).read(PREDICTION.names).equals(expected_rows())


@pytest.mark.parametrize("columns", [["image_id"], ["split", "row_id"], ["confusion", "group"]])
def test_only_the_columns_asked_for_are_read_in_the_order_asked_for(table: Table, columns: list[str]) -> None:
    assert table.read(columns).equals(expected_rows().select(columns))


def test_a_scan_yields_a_table_for_each_part_that_counts(table: Table) -> None:
    assert [rows["row_id"].to_pylist() for rows in table.scan(["row_id"])] == [[0, 1], [2, 3], [4, 5], [6, 7], [8]]
    assert len(list(storage.list_objects(f"{table.uri}/data"))) == 5 + 1


def test_the_manifest_lists_the_parts_in_shard_order(table: Table) -> None:
    assert table.manifest.schema.equals(MANIFEST)
    assert table.manifest["shard"].to_pylist() == [0, 0, 1, 1, 2]
    assert table.manifest["num_rows"].to_pylist() == [2, 2, 2, 2, 1]
    assert table.manifest["num_ok"].to_pylist() == [2, 1, 2, 1, 1]
    assert [len(storage.read_bytes(uri)) for uri in table.part_uris()] == table.manifest["size_bytes"].to_pylist()


def test_a_damaged_page_is_noticed_by_a_reader(tmp_path: Path) -> None:
    plan = begin(f"{tmp_path}/t")
    finish(plan)
    table = open_table(plan.uri)
    path = Path(table.part_uris()[0])
    column = pq.read_metadata(path).row_group(0).column(PREDICTION.get_field_index("pred_mask"))
    data = bytearray(path.read_bytes())
    data[column.data_page_offset + column.total_compressed_size - 1] ^= 1
    path.write_bytes(data)
    assert table.read(["image_id"]).equals(expected_rows().select(["image_id"]))
    with pytest.raises(StorageError, match=f"could not read {path}: .*checksum"):
        table.read(["pred_mask"])


def test_delta_readers_see_the_same_table(table: Table) -> None:
    delta = deltalake.DeltaTable(table.uri)
    rows = pa.table(delta.to_pyarrow_table()).sort_by("row_id")
    assert delta.version() == 0
    assert rows.to_pylist() == expected_rows().to_pylist()
    assert {field.name: field.nullable for field in delta.schema().fields} == {
        field.name: field.nullable for field in PREDICTION
    }


def test_the_delta_log_says_how_many_rows_a_part_has(table: Table) -> None:
    actions = map(json.loads, storage.read_bytes(f"{table.uri}/_delta_log/{0:020d}.json").splitlines())
    added = [action["add"] for action in actions if "add" in action]
    assert [add["path"] for add in added] == table.manifest["path"].to_pylist()
    assert [json.loads(add["stats"])["numRecords"] for add in added] == table.manifest["num_rows"].to_pylist()


def test_duckdb_reads_the_parts_and_groups_their_counts(table: Table) -> None:
    relation = duckdb.read_parquet(table.part_uris()).order("row_id")
    assert relation.fetchall() == [tuple(row.values()) for row in expected_rows().to_pylist()]
    cells = relation.project("split, unnest(confusion) as cell, generate_subscripts(confusion, 1) as position")
    found = cells.aggregate("split, position, sum(cell)::bigint").order("split, position").fetchall()
    expected = []
    for split in ("train", "val"):
        rows = expected_rows().filter(pc.field("split") == split)["confusion"].drop_null().to_pylist()
        expected += [(split, cell + 1, int(total)) for cell, total in enumerate(np.sum(rows, axis=0))]
    assert found == expected
    assert len(found) == 2 * NUM_CLASSES**2


def test_bad_rows_are_in_the_table_with_their_reason(table: Table) -> None:
    rows = table.read(["row_id", "status", "error_code", "pred_mask"]).to_pylist()
    bad = {row["row_id"]: row["error_code"] for row in rows if row["status"] == "quarantined"}
    assert bad == BAD_ROWS
    assert all((row["pred_mask"] is None) == (row["row_id"] in BAD_ROWS) for row in rows)
