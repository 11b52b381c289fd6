"""A prediction actor without Ray: it is called by several threads at a time, as Ray Data does."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest

from tests.unit.inline_table import NUM_UNITS, begin
from unet_ray.pipeline import _Actor, _pack, _unpack
from unet_ray.spending import Spent
from unet_ray.table.plan import Plan, Unit

SPIN_S = 0.05
INFERRING: list[tuple[float, float, int]] = []
DESCRIBING: list[tuple[float, float]] = []
"""Begin and end, and of a network the thread, of each call."""


def spin(seconds: float) -> None:
    """Use a core for so long, of this thread's time."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


class Network:
    def __call__(self, rows: pa.Table) -> pa.Table:
        began = time.monotonic()
        time.sleep(SPIN_S)  # as a GPU would be waited for
        INFERRING.append((began, time.monotonic(), threading.get_ident()))
        return rows


def describe(rows: pa.Table, row_ids: range) -> pa.Table:
    assert rows["row_id"].to_pylist() == list(row_ids)
    began = time.monotonic()
    spin(SPIN_S)
    DESCRIBING.append((began, time.monotonic()))
    return rows.append_column("described", pa.array([True] * len(rows)))


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return begin(f"{tmp_path}/t")


def call(actor: _Actor, plan: Plan, unit: Unit) -> Iterator[tuple[Unit, pa.Table, dict[str, Spent]]]:
    rows = pa.table({"row_id": list(plan.row_ids(unit))})
    for out in actor(_pack(unit, rows, {"load": Spent(seconds=1.0)})):
        yield from _unpack(out)


def test_units_are_inferred_one_at_a_time_in_one_thread_while_others_are_described(plan: Plan) -> None:
    INFERRING.clear()
    DESCRIBING.clear()
    actor = _Actor(plan, Network, {}, describe)
    units = list(plan.units(range(plan.num_shards)))
    with ThreadPoolExecutor(max_workers=3) as threads:
        found = [item for items in threads.map(lambda unit: list(call(actor, plan, unit)), units) for item in items]
    assert [unit for unit, _, _ in found] == units
    assert all(rows["described"].to_pylist() == [True] * len(rows) for _, rows, _ in found)
    assert len(INFERRING) == NUM_UNITS
    assert len({thread for _, _, thread in INFERRING}) == 1
    assert threading.get_ident() not in {thread for _, _, thread in INFERRING}
    assert all(end <= begin for (_, end, _), (begin, _, _) in pairwise(INFERRING))
    overlaps = (min(end, last) > max(begin, first) for begin, end, _ in INFERRING for first, last in DESCRIBING)
    assert any(overlaps)


def test_what_is_described_meanwhile_is_not_taken_for_the_network(plan: Plan) -> None:
    actor = _Actor(plan, Network, {}, describe)
    units = list(plan.units(range(plan.num_shards)))
    with ThreadPoolExecutor(max_workers=3) as threads:
        spent = [item[2] for items in threads.map(lambda unit: list(call(actor, plan, unit)), units) for item in items]
    total = {stage: sum((one[stage] for one in spent), Spent()) for stage in ("load", "infer", "describe")}
    assert total["load"].seconds == NUM_UNITS
    assert total["infer"].seconds >= NUM_UNITS * SPIN_S
    assert total["describe"].cpu_seconds == pytest.approx(NUM_UNITS * SPIN_S, rel=0.5)
    assert total["infer"].cpu_seconds < total["describe"].cpu_seconds  # it slept
