"""A pool of predictors that grows while data tasks leave CPUs idle."""

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.unit.inline_table import begin, planned_rows, predict_rows
from unet_ray import pipeline
from unet_ray.resources import Resources
from unet_ray.table.commit import QuarantineLimits, fill
from unet_ray.table.read import open_table

ONE = Resources(device="cpu", num_networks=1, cpus_per_network=1, threads_per_network=1, data_cpus=1)


class BusyNetwork:
    """Leaves a trace of the process it is in, and is busy until there are as many as it was told to wait for."""

    def __init__(self, folder: Path, others: int) -> None:
        self._folder = folder
        self._others = others
        (folder / str(os.getpid())).touch()

    def __call__(self, rows: pa.Table) -> pa.Table:
        time.sleep(0.1)
        deadline = time.monotonic() + 120
        while len(list(self._folder.iterdir())) <= self._others and time.monotonic() < deadline:
            time.sleep(0.1)
        self._others = 0
        return rows


def load(rows: Sequence[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(list(rows))


def describe(rows: pa.Table, row_ids: range) -> pa.Table:
    return predict_rows(rows.to_pylist())


@pytest.mark.parametrize(("resources", "most"), [(ONE, 1), (replace(ONE, spare_networks=2), 3)])
def test_a_pool_grows_as_far_as_it_may_and_the_table_is_the_same(
    ray_cluster: None, tmp_path: Path, resources: Resources, most: int
) -> None:
    rows = planned_rows(120)
    plan = begin(f"{tmp_path}/t", rows, shard_rows=40)
    (tmp_path / "seen").mkdir()
    fill(
        plan,
        lambda units: (
            part
            for part, _ in pipeline.infer(
                plan, units, load, BusyNetwork, {"folder": tmp_path / "seen", "others": min(1, most - 1)},
                describe, resources, units_per_task=1, units_per_part=20,
            )
        ),
        limits=QuarantineLimits(fraction=0.5),
    )  # fmt: skip
    processes = len(list((tmp_path / "seen").iterdir()))
    assert processes == 1 if most == 1 else 1 < processes <= most
    expected = predict_rows({"row_id": row_id, **row} for row_id, row in enumerate(rows))
    assert open_table(plan.uri).read(expected.column_names).equals(expected)
