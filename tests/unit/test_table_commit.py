import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.unit.inline_table import (
    BAD_ROWS,
    NUM_ROWS,
    NUM_UNITS,
    ROWS_WITHOUT_TRUTH,
    begin,
    expected_rows,
    finish,
    keys,
    planned_rows,
    produce,
    write_unit,
)
from unet_ray import storage
from unet_ray.errors import QuarantineLimitError, TableError
from unet_ray.schema import PREDICTION
from unet_ray.table.commit import Committer, Progress, QuarantineLimits, fill
from unet_ray.table.parts import Part
from unet_ray.table.plan import Plan, Unit
from unet_ray.table.publish import Success, publish, read_success
from unet_ray.table.read import open_table
from unet_ray.table.seals import read_ledger, seal_shard
from unet_ray.table.verify import verify

LIMITS = QuarantineLimits(fraction=0.5)


class Crash(Exception):
    """What ends a driver in these tests."""


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return begin(f"{tmp_path}/t")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Success:
    """The summary of a run that nothing happened to, without the hash of its attempt-unique part names."""
    success, already = finish(begin(f"{tmp_path_factory.mktemp('clean')}/t"))
    assert not already
    return replace(success, manifest_sha256="")


def assert_whole(plan: Plan, undisturbed: Success) -> None:
    """Check that a table holds every planned row exactly once, to the bit, and says so."""
    table = open_table(plan.uri)
    assert replace(table.success, manifest_sha256="", num_parts=undisturbed.num_parts) == undisturbed
    assert table.read(PREDICTION.names).equals(expected_rows())
    assert verify(plan.uri).problems == ()


def crash_after(plan: Plan, units: Sequence[Unit], messages: int, lose_one: bool = False) -> Iterator[Part]:
    yield from produce(plan, units[:messages])
    if lose_one:
        list(produce(plan, units[messages : messages + 1]))
    raise Crash


def test_a_clean_run_publishes_what_was_planned(plan: Plan, undisturbed: Success) -> None:
    success, already = finish(plan)
    assert not already
    assert success == read_success(plan.uri)
    assert_whole(plan, undisturbed)
    ok = [row for row in expected_rows().to_pylist() if row["row_id"] not in BAD_ROWS]
    truths = [row for row in ok if row["row_id"] not in ROWS_WITHOUT_TRUTH]
    assert (success.num_rows, success.num_ok, success.num_quarantined) == (NUM_ROWS, len(ok), len(BAD_ROWS))
    assert success.errors == {"missing_image": 1, "truncated": 1}
    assert success.num_parts == NUM_UNITS
    assert success.totals == {
        "channel_sum": np.sum([row["channel_sum"] for row in ok], axis=0).tolist(),
        "class_pixels": np.sum([row["class_pixels"] for row in ok], axis=0).tolist(),
        "ignored_pixels": [sum(row["ignored_pixels"] for row in truths)],
        "confusion": np.sum([row["confusion"] for row in truths], axis=0).tolist(),
        "calibration": np.sum([row["calibration"] for row in truths], axis=0).tolist(),
        "confidence_sum": np.sum([row["confidence_sum"] for row in ok], axis=0).tolist(),
        "entropy_sum": [sum(row["entropy_sum"] for row in ok)],
        "boundary_length": [sum(row["boundary_length"] for row in ok)],
        "components": np.sum([row["components"] for row in ok], axis=0).tolist(),
        "lasting": np.sum([row["lasting"] for row in ok if row["frame"]], axis=0).tolist(),
    }


@pytest.mark.parametrize("lose_one", [False, True], ids=["", "a part was written but not reported"])
@pytest.mark.parametrize("messages", range(NUM_UNITS + 1))
def test_a_run_that_crashed_after_any_message_is_finished_by_the_next(
    plan: Plan, undisturbed: Success, messages: int, lose_one: bool
) -> None:
    with pytest.raises(Crash):
        fill(plan, lambda units: crash_after(plan, units, messages, lose_one), limits=LIMITS)
    assert read_success(plan.uri) is None
    again: list[Unit] = []

    def resume(units: Sequence[Unit]) -> Iterator[Part]:
        again.extend(units)
        return produce(plan, units)

    success, already = fill(plan, resume, limits=LIMITS)
    assert not already
    sealed = sum(messages >= needed for needed in (2, 4, 5))  # units of shards 0, 0..1, 0..2
    assert [unit.shard for unit in again] == [shard for shard in (0, 0, 1, 1, 2) if shard >= sealed]
    assert success.num_parts == NUM_UNITS
    assert_whole(plan, undisturbed)


@pytest.mark.parametrize("lost", ["request", "reply"])
@pytest.mark.parametrize("number", range(6))
def test_a_driver_that_died_at_any_of_its_writes_is_followed_by_one_that_finishes(
    plan: Plan, undisturbed: Success, monkeypatch: pytest.MonkeyPatch, number: int, lost: str
) -> None:
    create, writes = storage.create, []

    def die(uri: str, data: bytes, *, exclusive: bool) -> bool:
        writes.append(uri)
        if len(writes) <= number:
            return create(uri, data)
        if lost == "reply":
            create(uri, data)
        raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(storage, "create", die)
        with pytest.raises(Crash):
            finish(plan)
    assert len(writes) == number + 1  # three seals, the manifest, the Delta log, the mark
    _, already = finish(plan)
    assert already == ((number, lost) == (5, "reply"))
    assert_whole(plan, undisturbed)


def test_crash_upon_crash_still_ends_with_every_row_once(plan: Plan, undisturbed: Success) -> None:
    for _ in range(3):
        with pytest.raises(Crash):
            fill(plan, lambda units: crash_after(plan, units, 2), limits=LIMITS)
    assert len(read_ledger(plan).shards) == 3
    finish(plan)
    assert_whole(plan, undisturbed)


def test_resubmission_after_success_does_no_work_and_writes_nothing(plan: Plan) -> None:
    first, _ = finish(plan)
    before = {item.key: item.etag for item in storage.list_objects(plan.uri)}

    def work(units: Sequence[Unit]) -> Iterator[Part]:
        raise AssertionError(units)

    assert fill(begin(plan.uri), work, limits=QuarantineLimits(fraction=0.0)) == (first, True)
    assert {item.key: item.etag for item in storage.list_objects(plan.uri)} == before


def test_work_that_ends_early_is_reported_and_taken_up_again(plan: Plan, undisturbed: Success) -> None:
    with pytest.raises(TableError, match=rf"{plan.uri}: the job ended with 3 units missing; run the same command"):
        fill(plan, lambda units: produce(plan, units[:3]), limits=LIMITS)
    assert read_success(plan.uri) is None
    finish(plan)
    assert_whole(plan, undisturbed)


def test_a_message_that_comes_twice_counts_once(plan: Plan, undisturbed: Success) -> None:
    def twice(units: Sequence[Unit]) -> Iterator[Part]:
        parts = list(produce(plan, units))
        return iter([part for part in parts for _ in range(2)] + parts)

    success, _ = fill(plan, twice, limits=QuarantineLimits(fraction=0.25))
    assert success.num_parts == NUM_UNITS
    assert_whole(plan, undisturbed)


def test_a_second_attempt_at_a_unit_becomes_an_orphan(plan: Plan, undisturbed: Success) -> None:
    def again(units: Sequence[Unit]) -> Iterator[Part]:
        return (write_unit(plan, unit) for unit in units for _ in range(2))

    fill(plan, again, limits=QuarantineLimits(fraction=0.25))
    assert len(verify(plan.uri).orphans) == NUM_UNITS
    assert_whole(plan, undisturbed)


def test_a_part_that_overlaps_another_only_in_part_is_left_out(plan: Plan) -> None:
    committer = Committer(plan, LIMITS)
    one = write_unit(plan, Unit(0, 1))
    committer.accept(one)
    committer.accept(replace(one, units=(0, 1), path="data/000000/both.parquet"))
    assert 0 not in committer.ledger.shards
    other = write_unit(plan, Unit(0, 0))
    committer.accept(other)
    assert [part.path for part in committer.ledger.shards[0]] == [other.path, one.path]


def test_messages_may_come_in_any_order(plan: Plan, undisturbed: Success) -> None:
    fill(plan, lambda units: produce(plan, units[::-1]), limits=LIMITS)
    assert_whole(plan, undisturbed)


@pytest.mark.parametrize("messages", range(NUM_UNITS + 1))
def test_a_second_driver_that_overtakes_changes_nothing(plan: Plan, undisturbed: Success, messages: int) -> None:
    other: list[tuple[Success, bool]] = []

    def overtaken(units: Sequence[Unit]) -> Iterator[Part]:
        parts = [write_unit(plan, unit) for unit in units]
        yield from parts[:messages]
        other.append(finish(begin(plan.uri)))
        yield from parts[messages:]

    success, _ = fill(plan, overtaken, limits=LIMITS)
    assert other == [(success, False)]
    assert_whole(plan, undisturbed)


def test_two_drivers_that_take_turns_agree_on_every_seal(plan: Plan, undisturbed: Success) -> None:
    first, second = Committer(plan, LIMITS), Committer(plan, LIMITS)
    forward, backward = produce(plan, first.pending()), produce(plan, second.pending()[::-1])
    for ours, theirs in zip(forward, backward, strict=True):
        first.accept(ours)
        second.accept(theirs)
    assert first.ledger == second.ledger == read_ledger(plan)
    assert publish(plan, first.ledger) == publish(plan, second.ledger)
    assert len(verify(plan.uri).orphans) == NUM_UNITS
    assert_whole(plan, undisturbed)


def test_drivers_that_race_publish_one_table(plan: Plan, undisturbed: Success) -> None:
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(lambda _: finish(begin(plan.uri))[0], range(4)))
    assert outcomes == [outcomes[0]] * 4
    assert_whole(plan, undisturbed)


def test_more_bad_rows_than_allowed_end_the_job_unpublished(plan: Plan) -> None:
    with pytest.raises(
        QuarantineLimitError,
        match=r"data.max_quarantined_fraction: 2 of 9 rows cannot be used \(truncated 1, missing_image 1\), "
        r"more than the share of 0.2 that is allowed; nothing was published",
    ):
        fill(plan, lambda units: produce(plan, units), limits=QuarantineLimits(fraction=0.2))
    assert read_success(plan.uri) is None


def test_a_raised_limit_lets_the_job_go_on(plan: Plan, undisturbed: Success) -> None:
    with pytest.raises(QuarantineLimitError):
        fill(plan, lambda units: produce(plan, units), limits=QuarantineLimits(fraction=0.0))
    finish(plan)
    assert_whole(plan, undisturbed)


def test_a_lowered_limit_counts_the_rows_that_are_sealed_already(plan: Plan) -> None:
    with pytest.raises(Crash):
        fill(plan, lambda units: crash_after(plan, units, NUM_UNITS), limits=LIMITS)
    with pytest.raises(QuarantineLimitError, match="2 of 9 rows cannot be used"):
        fill(plan, lambda units: produce(plan, units), limits=QuarantineLimits(fraction=0.2))
    assert read_success(plan.uri) is None


@pytest.mark.parametrize(("bad", "allowed"), [(0, True), (29, True), (30, False)])
def test_the_limit_is_exact(tmp_path: Path, bad: int, allowed: bool) -> None:
    plan = begin(f"{tmp_path}/t", planned_rows(100), shard_rows=100, unit_rows=50)  # 0.29 * 100 < 29 in floats
    part = Part(
        path="data/000000/x.parquet",
        shard=0,
        units=(0,),
        size_bytes=1,
        sha256="",
        num_rows=50,
        num_ok=50 - bad,
        num_pixels=0,
        errors={"truncated": bad} if bad else {},
        totals={},
    )
    committer = Committer(plan, QuarantineLimits(fraction=0.29))
    if allowed:
        committer.accept(part)
    else:
        with pytest.raises(QuarantineLimitError):
            committer.accept(part)


def test_progress_is_told_after_every_message(plan: Plan) -> None:
    with pytest.raises(Crash):
        fill(plan, lambda units: crash_after(plan, units, 3), limits=LIMITS)
    told: list[Progress] = []
    fill(plan, lambda units: produce(plan, units), limits=LIMITS, on_progress=told.append)
    assert told == [
        Progress(planned=9, done=done, quarantined=bad, resumed=4, pixels=pixels)
        for done, bad, pixels in [(4, 1, 0), (6, 1, 14), (8, 2, 22), (9, 2, 28)]
    ]


Forge = Callable[[list[Part]], None]


def drop_a_part(parts: list[Part]) -> None:
    parts.pop()


def count_a_row_twice(parts: list[Part]) -> None:
    parts.append(parts[0])


def lose_an_error(parts: list[Part]) -> None:
    parts[:] = [replace(part, errors={}) for part in parts]


@pytest.mark.parametrize("forge", [drop_a_part, count_a_row_twice, lose_an_error])
def test_rows_that_do_not_add_up_are_not_published(plan: Plan, forge: Forge) -> None:
    for shard in range(plan.num_shards):
        parts = list(produce(plan, plan.units([shard])))
        if shard == 0:
            forge(parts)
        seal_shard(plan, shard, parts)
    with pytest.raises(TableError, match=rf"{plan.uri}: 9 rows planned, .*\d ok \+ \d quarantined"):
        finish(plan)
    assert not {"_SUCCESS.json", "_MANIFEST.parquet"} & set(keys(plan.uri))


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_bytes(b"short")])
def test_a_sealed_part_that_is_gone_or_cut_is_found_before_publishing(
    plan: Plan, undisturbed: Success, spoil: Callable[[Path], None]
) -> None:
    seal = seal_shard(plan, 1, list(produce(plan, plan.units([1]))))
    path = Path(f"{plan.uri}/{seal.parts[0].path}")
    spoil(path)
    with pytest.raises(TableError, match=rf"{path}: this part was sealed, but is gone .*delete _seals/000001.json"):
        finish(plan)
    storage.delete(f"{plan.uri}/_seals/000001.json")
    finish(plan)
    assert_whole(plan, undisturbed)


def test_rows_that_are_all_bad_one_after_another_stop_the_job(tmp_path: Path) -> None:
    plan = begin(f"{tmp_path}/t", shard_rows=9, unit_rows=1)
    parts = [write_unit(plan, Unit(0, row_id)) for row_id in range(NUM_ROWS)]
    bad = [replace(part, num_ok=0, errors={"missing_mask": 1}) for part in parts]
    limits = QuarantineLimits(fraction=1.0, in_a_row=3)
    committer = Committer(plan, limits)
    for part in (bad[0], bad[1], parts[2], bad[4], bad[5]):
        committer.accept(part)
    with pytest.raises(
        QuarantineLimitError,
        match=r"data.max_quarantined_in_a_row: 3 rows that came one after another cannot be used \(missing_mask 3\), "
        "3 stop the job; nothing was published",
    ):
        committer.accept(bad[7])


def test_a_table_of_nothing_but_bad_rows_is_published_where_that_is_allowed(tmp_path: Path) -> None:
    plan = begin(f"{tmp_path}/t", shard_rows=9, unit_rows=1)
    parts = [write_unit(plan, Unit(0, row_id)) for row_id in range(NUM_ROWS)]
    bad = [replace(part, num_ok=0, errors={"truncated": 1}, totals={"confusion": []}) for part in parts]
    success, _ = fill(plan, lambda units: bad, limits=QuarantineLimits(fraction=1.0))
    assert (success.num_ok, success.num_quarantined, success.totals) == (0, NUM_ROWS, {"confusion": []})


def test_the_mark_is_the_last_thing_written(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    create, write, names = storage.create, storage.write, []

    def note_create(uri: str, data: bytes, *, exclusive: bool) -> bool:
        names.append(uri.removeprefix(f"{plan.uri}/"))
        return create(uri, data)

    def note_write(uri: str, data: bytes) -> None:
        names.append(uri.removeprefix(f"{plan.uri}/"))
        write(uri, data)

    monkeypatch.setattr(storage, "create", note_create)
    monkeypatch.setattr(storage, "write", note_write)
    finish(plan)
    assert names[-3:] == ["_MANIFEST.parquet", "_delta_log/00000000000000000000.json", "_SUCCESS.json"]
    assert sorted(names[:-3]) == [key for key in keys(plan.uri) if key.startswith(("_seals", "data"))]
    for name in names[:-3]:
        if name.startswith("_seals"):
            sealed = {part["path"] for part in json.loads(storage.read_bytes(f"{plan.uri}/{name}"))["parts"]}
            assert sealed <= set(names[: names.index(name)])


def test_the_table_is_cut_into_parts_but_read_in_plan_order(plan: Plan) -> None:
    fill(plan, lambda units: produce(plan, units[::-1]), limits=LIMITS)
    manifest = open_table(plan.uri).manifest
    assert manifest["shard"].to_pylist() == [0, 0, 1, 1, 2]
    assert sum(manifest["num_rows"].to_pylist()) == NUM_ROWS
