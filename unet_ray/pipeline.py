"""Ray Data over a plan: units go in, parts are written, their messages come out.

Every Ray row is one unit, packed into one cell, so no block split or bundling can tear a unit apart, and each
unit is computed in one call whatever the cluster looks like. Runs on the driver; the stages run in tasks and actors.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray
from ray.data import ActorPoolStrategy, DataContext, Dataset

from unet_ray.faults import outlast
from unet_ray.runtime import KEEP_HEAP, Resources
from unet_ray.table.parts import Part, rows_from_bytes, rows_to_bytes, write_part
from unet_ray.table.plan import Plan, Unit, Units

T = TypeVar("T")
Rows = list[dict[str, Any]]
Load = Callable[[Rows], pa.Table]
"""Planned rows (`schema.PLAN`) of a unit to a table with a row for each."""

_MOST_TASKS = 20_000
_PROGRESS_TIMEOUT_S = 1800


class Infer(Protocol):
    """What a prediction actor does with the loaded table of one unit."""

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Return the finished rows of the unit."""


def transform(plan: Plan, units: Units, load: Load, *, row_group_rows: int) -> Iterator[Part]:
    """Compute units in tasks, a part for each; yield the messages as they come."""
    _configure()
    stage = functools.partial(_transform, plan=plan, load=load, row_group_rows=row_group_rows)
    yield from _messages(in_tasks(units, 1, stage))


def infer(
    plan: Plan,
    units: Units,
    load: Load,
    network: type[Infer],
    network_kwargs: Mapping[str, Any],
    resources: Resources,
    *,
    units_per_task: int,
    units_per_part: int,
) -> Iterator[Part]:
    """Compute units in three overlapping stages: load in tasks, infer in a pool of actors, write in tasks."""
    _configure()
    loaded = in_tasks(units, units_per_task, functools.partial(_load, plan=plan, load=load))
    inferred = loaded.map_batches(
        _Actor,
        batch_size=None,
        batch_format="pyarrow",
        zero_copy_batch=True,
        compute=ActorPoolStrategy(size=resources.num_networks),
        fn_constructor_kwargs={"network": network, "kwargs": dict(network_kwargs)},
        num_cpus=resources.cpus_per_network,
        num_gpus=1 if resources.device == "gpu" else 0,
        runtime_env={"env_vars": KEEP_HEAP},
    )
    written = inferred.map_batches(
        functools.partial(_write, plan=plan),
        batch_size=units_per_part,
        batch_format="pyarrow",
        zero_copy_batch=True,
    )
    yield from _messages(written)


def collect(items: Sequence[T], items_per_task: int, stage: Callable[[T], pa.Table]) -> Iterator[dict[str, Any]]:
    """Compute items in tasks (`in_tasks`); yield the rows of their tables as they come."""
    _configure()
    yield from in_tasks(items, items_per_task, stage).iter_rows()


def in_tasks(items: Sequence[T], items_per_task: int, stage: Callable[[T], pa.Table]) -> Dataset:
    """Return ``stage`` of every item, a Ray task for each few consecutive ones; runs where the dataset is consumed.

    Reading numbers instead of the items themselves keeps the start cheap: Ray Data makes a remote call for each block
    it is handed, and none for a range.
    """
    num_tasks = min(_MOST_TASKS, -(-len(items) // items_per_task))
    numbers = ray.data.range(num_tasks, override_num_blocks=num_tasks)
    run = functools.partial(_run_tasks, items=ray.put(items), num_tasks=num_tasks, stage=stage)
    return numbers.map_batches(run, batch_size=None, batch_format="numpy")


def _run_tasks(
    batch: Mapping[str, NDArray[np.int64]],
    *,
    items: "ray.ObjectRef[Sequence[T]]",
    num_tasks: int,
    stage: Callable[[T], pa.Table],
) -> Iterator[pa.Table]:
    """Run the stage on the items of some tasks; a store that stops answering is outlasted, item by item."""
    sequence = ray.get(items)
    for task in batch["id"].tolist():
        first, end = (len(sequence) * bound // num_tasks for bound in (task, task + 1))
        for item in sequence[first:end]:
            yield outlast(functools.partial(stage, item))


def _configure() -> None:
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_no_progress_timeout_s = _PROGRESS_TIMEOUT_S


def _messages(dataset: Dataset) -> Iterator[Part]:
    for row in dataset.iter_rows():
        yield Part.from_json(row["part"])


def _transform(unit: Unit, *, plan: Plan, load: Load, row_group_rows: int) -> pa.Table:
    part = write_part(plan, [unit], load(plan.read(unit)), row_group_rows=row_group_rows)
    return pa.table({"part": [part.to_json()]})


def _load(unit: Unit, *, plan: Plan, load: Load) -> pa.Table:
    return _pack(unit, load(plan.read(unit)))


class _Actor:
    def __init__(self, network: Callable[..., Infer], kwargs: Mapping[str, Any]) -> None:
        self._infer = outlast(functools.partial(network, **kwargs))

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        for unit, rows in _unpack(batch):
            yield _pack(unit, self._infer(rows))


def _write(batch: pa.Table, *, plan: Plan) -> pa.Table:
    by_shard: dict[int, list[tuple[Unit, pa.Table]]] = {}
    for unit, rows in sorted(_unpack(batch), key=lambda item: item[0]):
        by_shard.setdefault(unit.shard, []).append((unit, rows))
    parts = []
    for members in by_shard.values():
        units, rows = [unit for unit, _ in members], pa.concat_tables(rows for _, rows in members)
        parts.append(outlast(functools.partial(write_part, plan, units, rows)))
    return pa.table({"part": [part.to_json() for part in parts]})


def _pack(unit: Unit, rows: pa.Table) -> pa.Table:
    cell = pa.array([rows_to_bytes(rows)], pa.large_binary())
    return pa.table({"shard": [unit.shard], "unit": [unit.index], "rows": cell})


def _unpack(batch: pa.Table) -> Iterator[tuple[Unit, pa.Table]]:
    for shard, index, cell in zip(batch["shard"].to_pylist(), batch["unit"].to_pylist(), batch["rows"], strict=True):
        yield Unit(shard, index), rows_from_bytes(cell.as_buffer())
