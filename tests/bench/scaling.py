"""How jobs grow with nodes: ``python -m tests.bench.scaling [SECONDS A UNIT]``.

Clusters of one, two and four nodes of a CPU, beside a head of one, on this machine. What a unit takes is slept, so that
nodes do not compete for cores: what is timed is what the driver and Ray add. Takes nine minutes.
"""

import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from tests.bench.clock import print_rows, row
from tests.nodes import Nodes
from tests.unit.inline_table import begin, planned_rows, predict_rows
from unet_ray import pipeline, runtime
from unet_ray.resources import Resources
from unet_ray.table.commit import QuarantineLimits, fill
from unet_ray.table.parts import Part
from unet_ray.table.plan import Plan, Units

WORKERS = (1, 2, 4)
ROWS_PER_UNIT = 8
UNITS_PER_NODE = (4, 24, 80)  # of a job that warms processes up, a short one and a long one


class Sleeper:
    """A network that takes its time and no core."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __call__(self, rows: pa.Table) -> pa.Table:
        time.sleep(self._seconds)
        return rows


def load(rows: Sequence[dict[str, Any]], seconds: float = 0.0) -> pa.Table:
    time.sleep(seconds)
    return pa.Table.from_pylist(list(rows))


def describe(rows: pa.Table, row_ids: range) -> pa.Table:
    return predict_rows(rows.to_pylist())


def load_and_describe(rows: Sequence[dict[str, Any]], seconds: float) -> pa.Table:
    return describe(load(rows, seconds), range(0))


def predict_on(nodes: int, seconds: float, plan: Plan, units: Units) -> Iterator[Part]:
    resources = Resources(device="cpu", num_networks=nodes, cpus_per_network=1, threads_per_network=1, data_cpus=1)
    messages = pipeline.infer(
        plan, units, load, Sleeper, {"seconds": seconds}, describe, resources, units_per_task=4, units_per_part=4
    )
    return (part for part, _ in messages)


def prepare_on(nodes: int, seconds: float, plan: Plan, units: Units) -> Iterator[Part]:
    stage = functools.partial(load_and_describe, seconds=seconds)
    return (part for part, _ in pipeline.transform(plan, units, stage, row_group_rows=ROWS_PER_UNIT))


def rate(scratch: Path, name: str, nodes: int, produce: Callable[[Plan, Units], Iterator[Part]]) -> float:
    """Return rows per second of a job that flows: what a long one takes more than a short one."""
    _, (few, few_s), (many, many_s) = (
        timed(scratch / f"{name}_{units}", nodes * units * ROWS_PER_UNIT, produce) for units in UNITS_PER_NODE
    )
    return (many - few) / (many_s - few_s)


def timed(folder: Path, num_rows: int, produce: Callable[[Plan, Units], Iterator[Part]]) -> tuple[int, float]:
    """Run a job and return its rows and seconds."""
    plan = begin(str(folder), planned_rows(num_rows), shard_rows=64, unit_rows=ROWS_PER_UNIT)
    started = time.perf_counter()
    fill(plan, functools.partial(produce, plan), limits=QuarantineLimits(fraction=0.5))
    return num_rows, time.perf_counter() - started


def measure_here(nodes: int, seconds: float) -> dict[str, float]:
    """Return the rows per second of a CPU, of each job, on the cluster of ``RAY_ADDRESS``."""
    jobs = (("predict", predict_on, nodes), ("prepare", prepare_on, nodes + 1))  # whose tasks the head has a place for
    with tempfile.TemporaryDirectory() as folder, runtime.connected():
        return {
            name: rate(Path(folder), name, nodes, functools.partial(produce, nodes, seconds)) / cpus
            for name, produce, cpus in jobs
        }


def measure(seconds: float) -> list[dict[str, Any]]:
    """Return for each number of nodes the rate of a CPU against that on one node."""
    rates = {}
    for nodes in WORKERS:
        with Nodes(*[1] * nodes, head=1) as cluster:
            done = subprocess.run(
                [sys.executable, "-m", "tests.bench.scaling", str(seconds), str(nodes)],
                env={**os.environ, **cluster.environment}, stdout=subprocess.PIPE, check=True,
            )  # fmt: skip
            rates[nodes] = json.loads(done.stdout)
    return [
        row(f"{name}, {nodes} nodes, rows of a CPU", rates[nodes][name], "rows/s", "on 1 node", rates[1][name])
        for name in rates[1]
        for nodes in WORKERS[1:]
    ]


def main() -> None:
    """Measure and print."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 0.4
    if len(sys.argv) > 2:
        sys.stdout.write(json.dumps(measure_here(int(sys.argv[2]), seconds)))
        return
    print_rows(measure(seconds))


if __name__ == "__main__":
    main()
