import hashlib
import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.inline_table import BAD_ROWS, SHARD_ROWS, begin, expected_rows, keys, predict_rows, write_unit
from unet_ray import storage
from unet_ray.errors import TableError
from unet_ray.schema import PREDICTION, PREDICTION_SUMMED
from unet_ray.table.parts import (
    Part,
    add_totals,
    count_errors,
    read_part,
    rows_from_cell,
    rows_to_cell,
    sum_columns,
    write_part,
)
from unet_ray.table.plan import Plan, Unit

NUMBERS = pa.schema([("lists", pa.list_(pa.int64())), ("scalars", pa.int32())])


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return begin(f"{tmp_path}/t")


def numbers(*rows: tuple[list[int] | None, int | None]) -> pa.Table:
    return pa.Table.from_pylist([{"lists": cells, "scalars": cell} for cells, cell in rows], schema=NUMBERS)


def test_sums_are_exact_and_skip_null_cells() -> None:
    rows = numbers(([1, 2**53], 7), (None, None), ([2, 1], None), ([0, 2**60], 2**31 - 1))
    assert sum_columns(rows, ["lists", "scalars"]) == {"lists": [3, 2**53 + 1 + 2**60], "scalars": [2**31 + 6]}


@pytest.mark.parametrize("rows", [numbers(), numbers((None, None), (None, None))])
def test_a_column_without_a_value_sums_to_an_empty_list(rows: pa.Table) -> None:
    assert sum_columns(rows, ["lists", "scalars"]) == {"lists": [], "scalars": []}


def test_totals_add_up_and_an_empty_one_adds_nothing() -> None:
    assert add_totals([]) == {}
    assert add_totals([{"a": []}, {"a": []}]) == {"a": []}
    assert add_totals([{"a": []}, {"a": [1, 2]}, {"a": []}, {"a": [10, 2**60]}]) == {"a": [11, 2**60 + 2]}
    assert add_totals([{"a": [1]}, {"b": [2]}, {"a": [3]}]) == {"a": [4], "b": [2]}


def test_totals_of_other_lengths_are_never_added() -> None:
    with pytest.raises(ValueError, match="zip"):
        add_totals([{"a": [1, 2]}, {"a": [1]}])


def test_adding_totals_changes_none_of_them() -> None:
    totals = [{"a": [1]}, {"a": [2]}]
    assert add_totals(totals) == add_totals(totals) == {"a": [3]}


def test_a_part_reports_what_it_holds(plan: Plan) -> None:
    part = write_part(plan, [Unit(0, 1), Unit(0, 0)], expected_rows().slice(0, SHARD_ROWS))
    data = storage.read_bytes(f"{plan.uri}/{part.path}")
    ok = [row for row in expected_rows().slice(0, SHARD_ROWS).to_pylist() if row["row_id"] not in BAD_ROWS]
    truths = [row["confusion"] for row in ok if row["confusion"] is not None]
    assert part.path.startswith("data/000000/")
    assert (part.shard, part.units) == (0, (0, 1))
    assert (part.size_bytes, part.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert (part.num_rows, part.num_ok, part.errors) == (4, 3, {"truncated": 1})
    assert part.totals["confusion"] == [sum(cells) for cells in zip(*truths, strict=True)]
    assert part.totals["ignored_pixels"] == [0 + 2]
    assert read_part(plan.uri, part.path, part.sha256).equals(expected_rows().slice(0, SHARD_ROWS))
    assert read_part(plan.uri, part.path, part.sha256, ["row_id"])["row_id"].to_pylist() == [0, 1, 2, 3]


def test_a_message_survives_the_way_to_the_driver(plan: Plan) -> None:
    part = write_unit(plan, Unit(1, 0))
    assert Part.from_json(part.to_json()) == part


def test_every_attempt_has_a_file_of_its_own(plan: Plan) -> None:
    first, second = write_unit(plan, Unit(0, 0)), write_unit(plan, Unit(0, 0))
    assert first.path != second.path
    assert first.sha256 == second.sha256
    assert {first.path, second.path} < set(keys(plan.uri))


@pytest.mark.parametrize("found", [[0], [0, 1, 1], [1, 2], [0, 0], [0, 1, 2]])
def test_rows_that_are_not_those_of_the_units_are_refused(plan: Plan, found: list[int]) -> None:
    rows = expected_rows().take(found)
    with pytest.raises(TableError, match=r"a task returned rows .* where the plan has \[0, 1\]"):
        write_part(plan, [Unit(0, 0)], rows)
    assert not any(key.startswith("data/") for key in keys(plan.uri))


def test_the_short_last_unit_is_as_long_as_planned(plan: Plan) -> None:
    assert write_unit(plan, Unit(2, 0)).num_rows == 1


def test_rows_may_come_in_any_order(plan: Plan) -> None:
    assert write_part(plan, [Unit(0, 0)], expected_rows().take([1, 0])).num_rows == 2


def test_every_page_carries_a_checksum(plan: Plan) -> None:
    part = write_unit(plan, Unit(0, 0))
    data = storage.read_bytes(f"{plan.uri}/{part.path}")
    group = pq.read_metadata(io.BytesIO(data)).row_group(0)
    for column in map(group.column, range(group.num_columns)):
        first = column.dictionary_page_offset or column.data_page_offset
        damaged = bytearray(data)
        damaged[first + column.total_compressed_size - 1] ^= 1
        with pytest.raises(OSError, match="CRC checksum verification failed"):
            pq.read_table(io.BytesIO(damaged), page_checksum_verification=True)


def test_a_row_group_is_as_long_as_asked(plan: Plan) -> None:
    part = write_part(plan, [Unit(0, 0), Unit(0, 1)], expected_rows().slice(0, SHARD_ROWS), row_group_rows=3)
    metadata = pq.read_metadata(f"{plan.uri}/{part.path}")
    assert [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)] == [3, 1]


def test_a_part_that_changed_after_it_was_sealed_is_not_read(plan: Plan) -> None:
    part = write_unit(plan, Unit(0, 0))
    path = Path(f"{plan.uri}/{part.path}")
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(TableError, match=rf"{path}: the file changed after it was sealed \(sha256 differs\)"):
        read_part(plan.uri, part.path, part.sha256)


def test_errors_are_counted_by_code() -> None:
    assert count_errors(expected_rows()) == {"missing_image": 1, "truncated": 1}
    assert count_errors(expected_rows().slice(0, 0)) == {}


@pytest.mark.parametrize("rows", [expected_rows(), expected_rows().slice(2, 3), expected_rows().slice(0, 0)])
def test_rows_in_a_cell_come_back_as_they_were(rows: pa.Table) -> None:
    column = rows_to_cell(rows)
    column.validate(full=True)
    assert rows_from_cell(column[0]).equals(rows)
    assert rows_from_cell(pa.table({"rows": column})["rows"][0]).equals(rows)


def test_a_shard_of_nothing_but_bad_rows_has_empty_totals(plan: Plan) -> None:
    def bad(row: dict[str, Any]) -> dict[str, Any]:
        return row | {"status": "quarantined", "error_code": "truncated"}

    rows = pa.Table.from_pylist([bad(row) for row in predict_rows(plan.read(Unit(0, 0))).to_pylist()], PREDICTION)
    part = write_part(plan, [Unit(0, 0)], rows)
    assert (part.num_ok, part.errors) == (0, {"truncated": 2})
    assert part.totals == {name: [] for name in PREDICTION_SUMMED}
