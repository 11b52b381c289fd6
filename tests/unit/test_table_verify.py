import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from tests.unit.inline_table import (
    NUM_CLASSES,
    NUM_ROWS,
    NUM_UNITS,
    begin,
    expected_rows,
    finish,
    keys,
    produce,
    write_unit,
)
from unet_ray.errors import NotFoundError, TableError, UnetRayError
from unet_ray.schema import PREDICTION, PREDICTION_SUMMED
from unet_ray.table.parts import Part, write_part
from unet_ray.table.plan import Plan, Unit
from unet_ray.table.publish import publish
from unet_ray.table.read import open_table
from unet_ray.table.seals import read_ledger, seal_shard
from unet_ray.table.verify import verify


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published table with two orphans."""
    folder = tmp_path_factory.mktemp("sound") / "t"
    plan = begin(str(folder))
    write_unit(plan, Unit(0, 1))
    finish(plan)
    write_unit(plan, Unit(2, 0))
    return folder


@pytest.fixture
def uri(sound: Path, tmp_path: Path) -> str:
    """A copy of it, to be damaged."""
    return str(shutil.copytree(sound, tmp_path / "t"))


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """A plan of one shard, every row a unit, to be published with forged parts."""
    return begin(f"{tmp_path}/forged", shard_rows=NUM_ROWS, unit_rows=1)


def publish_forged(plan: Plan, row_id: int, forge: Callable[[Part], Part]) -> tuple[str, ...]:
    """Publish a table in which the part of one row is another, and return what `verify` says of it."""
    parts = list(produce(plan, plan.units([0])))
    parts[row_id] = forge(parts[row_id])
    seal_shard(plan, 0, parts)
    publish(plan, read_ledger(plan))
    return verify(plan.uri).problems


def test_a_sound_table_has_no_problems(uri: str) -> None:
    found = verify(uri)
    assert found.problems == ()
    assert (found.num_rows, found.num_ok, found.num_quarantined, found.num_parts) == (9, 7, 2, NUM_UNITS)


def test_a_table_that_is_not_published_cannot_be_verified(tmp_path: Path) -> None:
    plan = begin(f"{tmp_path}/t")
    list(produce(plan, plan.units([0])))
    with pytest.raises(TableError, match="not complete"):
        verify(plan.uri, collect_garbage=True)
    assert sum(key.startswith("data/") for key in keys(plan.uri)) == 2


def test_two_hundred_damaged_bytes_anywhere_in_the_table_are_all_found(uri: str) -> None:
    listed = {f"data/{path.removeprefix('data/')}" for path in open_table(uri).manifest["path"].to_pylist()}
    files = [key for key in keys(uri) if not key.startswith("data/") or key in listed]
    kinds = {key.partition("/")[0] for key in files}
    assert kinds == {"_PLAN.json", "_plan", "data", "_seals", "_MANIFEST.parquet", "_delta_log", "_SUCCESS.json"}
    rng = random.Random(0)
    silent = []
    for trial in range(210):
        key = files[trial % len(files)]
        path = Path(uri, key)
        sound = path.read_bytes()
        place, bit = rng.randrange(len(sound)), 1 << rng.randrange(8)
        path.write_bytes(sound[:place] + bytes([sound[place] ^ bit]) + sound[place + 1 :])
        try:
            if not verify(uri).problems:
                silent.append((key, place, bit))
        except UnetRayError:
            pass
        path.write_bytes(sound)
    assert silent == []
    assert verify(uri).problems == ()


@pytest.mark.parametrize("kind", ["_seals", "_delta_log"])
def test_a_seal_or_delta_log_that_is_gone_is_found(uri: str, kind: str) -> None:
    next(Path(uri, key) for key in keys(uri) if key.startswith(kind)).unlink()
    assert any(kind in problem or "the seals" in problem for problem in verify(uri).problems)


@pytest.mark.parametrize("kind", ["_plan", "_MANIFEST.parquet"])
def test_a_plan_or_manifest_that_is_gone_is_found(uri: str, kind: str) -> None:
    next(Path(uri, key) for key in keys(uri) if key.startswith(kind)).unlink()
    with pytest.raises(NotFoundError, match=kind):
        verify(uri)


@pytest.mark.parametrize("place", [0.0, 0.3, 0.6, 0.999])
def test_a_flipped_bit_anywhere_in_a_part_is_found(uri: str, place: float) -> None:
    path = Path(open_table(uri).part_uris()[1])
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 1
    path.write_bytes(data)
    found = verify(uri)
    assert found.problems[0] == f"{path.relative_to(uri)}: changed after it was sealed (sha256 differs)"
    assert "rows: 2 of 9 missing, first row_id 2" in found.problems


def test_a_deleted_part_is_found(uri: str) -> None:
    path = Path(open_table(uri).part_uris()[-1])
    path.unlink()
    found = verify(uri)
    assert found.problems == (
        f"{path.relative_to(uri)}: missing",
        "rows: 1 of 9 missing, first row_id 8",
        "ok rows: 6 found, 7 published",
        *(f"totals: {name} differs from the rows" for name in PREDICTION_SUMMED),
    )
    assert found.num_rows == 8


def test_orphans_are_named_and_left_alone(uri: str) -> None:
    listed = set(open_table(uri).manifest["path"].to_pylist())
    before = keys(uri)
    found = verify(uri)
    assert set(found.orphans) == {key for key in before if key.startswith("data/")} - listed
    assert (len(found.orphans), found.removed) == (2, 0)
    assert keys(uri) == before


def test_garbage_collection_removes_the_orphans_and_nothing_else(uri: str) -> None:
    before = keys(uri)
    found = verify(uri, collect_garbage=True)
    assert found.removed == 2
    assert keys(uri) == sorted(set(before) - set(found.orphans))
    assert verify(uri, collect_garbage=True) == replace(found, orphans=(), removed=0)
    assert open_table(uri).read(PREDICTION.names).equals(expected_rows())


def test_nothing_is_removed_from_a_table_with_problems(uri: str) -> None:
    Path(open_table(uri).part_uris()[0]).unlink()
    before = keys(uri)
    found = verify(uri, collect_garbage=True)
    assert (len(found.orphans), found.removed) == (2, 0)
    assert keys(uri) == before


def test_a_row_that_stands_twice_and_one_that_is_missing_are_found(plan: Plan) -> None:
    problems = publish_forged(plan, 4, lambda part: write_unit(plan, Unit(0, 5)))
    assert "rows: 1 stand more than once" in problems
    assert "rows: 1 of 9 missing, first row_id 4" in problems


def test_a_row_that_was_never_planned_is_found(plan: Plan) -> None:
    longer = replace(plan, num_rows=1001, shard_rows=1000)
    stranger = expected_rows().slice(8).set_column(0, PREDICTION.field("row_id"), pa.array([1000]))
    problems = publish_forged(plan, 8, lambda part: write_part(longer, [Unit(1, 0)], stranger))
    assert "rows: 1 were never planned, first row_id 1000" in problems
    assert "rows: 1 of 9 missing, first row_id 8" in problems


def test_a_seal_that_miscounts_its_rows_is_found(plan: Plan) -> None:
    problems = publish_forged(plan, 2, lambda part: replace(part, num_rows=2))
    assert [problem.partition(": ")[2] for problem in problems] == ["1 rows, its seal says 2"]


def test_a_seal_that_miscounts_the_ok_rows_is_found(plan: Plan) -> None:
    problems = publish_forged(plan, 2, lambda part: replace(part, num_ok=0, errors={"truncated": 1}))
    assert problems == ("ok rows: 7 found, 6 published",)


@pytest.mark.parametrize("totals", [{"confusion": [1] * NUM_CLASSES**2}, {"confusion": []}])
def test_totals_that_are_not_the_sums_of_the_rows_are_found(plan: Plan, totals: dict[str, list[int]]) -> None:
    problems = publish_forged(plan, 2, lambda part: replace(part, totals={**part.totals, **totals}))
    assert problems == ("totals: confusion differs from the rows",)
