import json
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.inline_table import begin, finish, keys, planned_rows, terms
from unet_ray import storage
from unet_ray.documents import pack_document
from unet_ray.errors import PlanMismatchError, TableError
from unet_ray.schema import PLAN, SCHEMA_VERSION
from unet_ray.table.plan import Plan, Unit, begun_plan, create_plan, open_plan


def cut(num_rows: int, shard_rows: int, unit_rows: int) -> Plan:
    return Plan(
        uri="nowhere",
        kind="predictions",
        run_id="0",
        settings={},
        facts={},
        notes={},
        summed=(),
        num_rows=num_rows,
        shard_rows=shard_rows,
        unit_rows=unit_rows,
        parts=(),
        rows_sha256="",
    )


@given(st.integers(1, 300), st.integers(1, 40), st.integers(1, 40))
def test_units_cut_every_planned_row_exactly_once(num_rows: int, shard_rows: int, unit_rows: int) -> None:
    plan = cut(num_rows, shard_rows, unit_rows)
    rows: list[int] = []
    for shard in range(plan.num_shards):
        units = plan.units([shard])
        assert [unit.index for unit in units] == list(range(plan.num_units(shard))) == list(range(len(units)))
        assert sum(plan.unit_size(unit) for unit in units) == plan.shard_size(shard)
        for unit in units:
            first = shard * shard_rows + unit.index * unit_rows
            assert 1 <= plan.unit_size(unit) <= unit_rows
            rows += range(first, first + plan.unit_size(unit))
    assert rows == list(range(num_rows))


def test_a_unit_that_is_larger_than_its_shard_is_the_shard() -> None:
    plan = cut(10, 4, 100)
    assert list(plan.units(range(3))) == [Unit(0, 0), Unit(1, 0), Unit(2, 0)]
    assert [plan.unit_size(Unit(shard, 0)) for shard in range(3)] == [4, 4, 2]


@given(st.sets(st.integers(0, 6)), st.integers(1, 9))
def test_the_units_of_some_shards_are_a_sequence_of_theirs(shards: set[int], unit_rows: int) -> None:
    plan = cut(50, 8, unit_rows)  # the seventh shard has two rows
    units = plan.units(sorted(shards))
    assert list(units) == [unit for shard in sorted(shards) for unit in plan.units([shard])]
    assert [units[index] for index in range(-len(units), 0)] == list(units)
    assert units[1:-1] == list(units)[1:-1]
    assert units[::-2] == list(units)[::-2]
    with pytest.raises(IndexError):
        units[len(units)]


def test_the_units_of_a_plan_of_a_hundred_million_rows_take_no_memory() -> None:
    units = cut(10**8, 5000, 8).units(range(20_000))
    assert len(units) == 12_500_000
    assert units[12_499_999] == Unit(19_999, 624)
    assert len(pickle.dumps(units)) < 200_000


def test_units_read_the_rows_that_were_planned_in_order_across_plan_parts(tmp_path: Path) -> None:
    rows = planned_rows(21)
    plan = begin(f"{tmp_path}/t", rows, shard_rows=2, unit_rows=1)
    assert len(plan.parts) == 2  # 8 shards each: row 16 begins the second
    read = [row for unit in plan.units(range(plan.num_shards)) for row in plan.read(unit)]
    assert [row["row_id"] for row in read] == list(range(21))
    assert read == pa.concat_tables(plan.scan()).to_pylist()
    expected = [{name: row.get(name) for name in PLAN.names if name != "row_id"} for row in rows]
    assert [{name: row[name] for name in row if name != "row_id"} for row in read] == expected


@given(around=st.integers(0, 20), shard=st.integers(0, 6))
def test_a_unit_is_read_with_its_neighbours_of_its_own_groups(
    around: int, shard: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    groups = ["", "", "a", "a", "a", "b", "b", "b", "b", "b", "b", "b", "b", "b", "b", "b", "b", "c", "c", "", ""]
    rows = [row | {"group": group} for row, group in zip(planned_rows(21), groups, strict=True)]
    plan = begin(f"{tmp_path_factory.mktemp('around')}/t", rows, shard_rows=3, unit_rows=2)
    for unit in plan.units([shard]):
        own = plan.row_ids(unit)
        found = [row["row_id"] for row in plan.read(unit, around)]
        near = range(max(0, own.start - around), min(21, own.stop + around))
        same = {row_id: groups[own.start if row_id < own.start else own[-1]] for row_id in near}
        expected = [row_id for row_id in near if row_id in own or (groups[row_id] and groups[row_id] == same[row_id])]
        assert found == expected


def test_a_plan_given_twice_is_taken_up_as_it_is(tmp_path: Path) -> None:
    uri = f"{tmp_path}/t"
    first = begin(uri)
    before = {item.key: item.etag for item in storage.list_objects(uri)}
    assert begin(uri, iter(planned_rows())) == first == open_plan(uri)
    assert {item.key: item.etag for item in storage.list_objects(uri)} == before


def test_a_plan_that_was_cut_off_before_its_last_write_is_begun_again(tmp_path: Path) -> None:
    whole = begin(f"{tmp_path}/whole")
    torn = f"{tmp_path}/torn"
    begin(torn)
    storage.delete(f"{torn}/_PLAN.json")
    with pytest.raises(TableError, match=r"no table here \(_PLAN.json is missing\)"):
        open_plan(torn)
    assert begin(torn).run_id == whole.run_id


def test_plan_rows_that_another_parquet_writer_encoded_are_taken_up(tmp_path: Path) -> None:
    plan, other = begin(f"{tmp_path}/t"), f"{tmp_path}/other"
    sink = pa.BufferOutputStream()
    pq.write_table(pa.concat_tables(plan.scan()), sink, compression="none")
    storage.create(f"{other}/{plan.parts[0].path}", sink.getvalue().to_pybytes())
    assert begin(other).run_id == plan.run_id
    assert begin(other).read(Unit(0, 1)) == plan.read(Unit(0, 1))


def test_a_changed_byte_in_the_planned_rows_is_noticed(tmp_path: Path) -> None:
    plan = begin(f"{tmp_path}/t")
    path = Path(f"{plan.uri}/{plan.parts[0].path}")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(TableError, match=f"{path}: the planned rows changed after they were written"):
        plan.read(Unit(0, 0))


def test_an_unfinished_job_is_taken_up_without_listing_its_input_again(tmp_path: Path) -> None:
    uri = f"{tmp_path}/t"
    assert begun_plan(uri, terms()) is None
    plan = begin(uri)
    assert begun_plan(uri, terms()) == plan
    finish(plan)
    assert begun_plan(uri, terms()) is None  # whether files came since is for the listing to say


def test_other_terms_are_refused_before_anything_is_listed(tmp_path: Path) -> None:
    plan = begin(f"{tmp_path}/t")
    for _ in range(2):
        with pytest.raises(PlanMismatchError, match=r'predict.checkpoint: .* was begun with "0123", this job has "45"'):
            begun_plan(plan.uri, terms(settings={"predict.batch_size": 2, "predict.checkpoint": "45"}))
        finish(plan)


def test_notes_are_kept_and_do_not_tell_plans_apart(tmp_path: Path) -> None:
    plan = create_plan(f"{tmp_path}/t", planned_rows(), terms(), notes={"skipped_objects": 3})
    again = create_plan(f"{tmp_path}/t", planned_rows(), terms(), notes={"skipped_objects": 4})
    assert again.notes == plan.notes == {"skipped_objects": 3}
    assert again.run_id == plan.run_id


def test_a_plan_of_nothing_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="nothing to plan: the input has 0 rows"):
        begin(f"{tmp_path}/t", [])
    assert not (tmp_path / "t").exists()


def change_a_row() -> list[dict[str, Any]]:
    return [row | {"image_etag": "new"} if row["frame"] == 1 else row for row in planned_rows()]


DIFFERENCES: list[tuple[str, dict[str, Any], str]] = [
    ("kind", {"kind": "dataset"}, r"{uri}: holds a table of predictions, not dataset; choose another output"),
    (
        "setting",
        {"settings": {"predict.batch_size": 2, "predict.checkpoint": "4567"}},
        r'predict.checkpoint: {uri} was begun with "0123", this job has "4567"; choose another output',
    ),
    (
        "new setting",
        {"settings": {"a.new": True, "predict.batch_size": 2, "predict.checkpoint": "0123"}},
        r"a.new: {uri} was begun with null, this job has true",
    ),
    (
        "fact",
        {"facts": {"classes": ("road", "sky", "bus"), "background": None}},
        r'classes: {uri} was begun with \["road", "sky", "car"\], this job has \["road", "sky", "bus"\]',
    ),
    ("rows", {"rows": planned_rows(8)}, r"{uri}: was begun with 9 rows, the input now has 8"),
    ("changed row", {"rows": change_a_row()}, r"{uri}: the input has 9 rows as before, but some of them changed since"),
    (
        "order",
        {"rows": planned_rows()[::-1]},
        r"{uri}: the input has 9 rows as before, but some of them changed since",
    ),
    ("shard_rows", {"shard_rows": 8}, r"shard_rows: {uri} was begun with 4, this job has 8"),
    ("unit_rows", {"unit_rows": 1}, r"unit_rows: {uri} was begun with 2, this job has 1"),
]


@pytest.mark.parametrize(
    ("changes", "message"), [case[1:] for case in DIFFERENCES], ids=[case[0] for case in DIFFERENCES]
)
def test_another_plan_is_refused_and_what_differs_is_named(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    uri = f"{tmp_path}/t"
    plan = begin(uri)
    with pytest.raises(PlanMismatchError, match="^" + message.replace("{uri}", uri)):
        begin(uri, **changes)
    assert open_plan(uri) == plan


def test_a_long_value_is_cut_in_the_message(tmp_path: Path) -> None:
    begin(f"{tmp_path}/t", facts={"classes": ["a"] * 500})
    with pytest.raises(PlanMismatchError) as caught:
        begin(f"{tmp_path}/t", facts={"classes": ["b"] * 500})
    assert len(str(caught.value)) < 300 + len(str(tmp_path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "not valid JSON"),
        (b"[]", "not a file of this unet-ray"),
        (b"{}", "not a file of this unet-ray"),
        (pack_document({"format": "another"}), "not a plan of unet-ray"),
    ],
)
def test_a_file_that_is_no_plan_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    storage.create(f"{tmp_path}/_PLAN.json", content)
    for use in (open_plan, begin):
        with pytest.raises(TableError, match=f"_PLAN.json: {message}"):
            use(str(tmp_path))


def test_a_plan_of_another_schema_version_is_refused(tmp_path: Path) -> None:
    uri = f"{tmp_path}/t"
    begin(uri)
    document = json.loads(storage.read_bytes(f"{uri}/_PLAN.json"))
    del document["sha256"]
    storage.write(f"{uri}/_PLAN.json", pack_document(document | {"schema_version": SCHEMA_VERSION + 1}))
    with pytest.raises(PlanMismatchError, match=f"written with schema version {SCHEMA_VERSION + 1}, this unet-ray has"):
        open_plan(uri)


def test_nothing_but_the_plan_and_its_rows_is_written(tmp_path: Path) -> None:
    plan = begin(f"{tmp_path}/t")
    assert keys(plan.uri) == ["_PLAN.json", *(part.path for part in plan.parts)]
