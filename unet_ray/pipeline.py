"""Ray Data over a plan: units go in, parts are written, their messages come out.

Every Ray row is one unit, packed into one cell, so no block split or bundling can tear a unit apart, and each
unit is computed in one call whatever the cluster looks like. Runs on the driver; the stages run in tasks and actors.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any, Protocol, TypeVar

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray
from ray.data import ActorPoolStrategy, DataContext, Dataset

from unet_ray.faults import outlast
from unet_ray.resources import Resources
from unet_ray.runtime import KEEP_HEAP
from unet_ray.spending import Clock, Spending, Spent, spending_from_json, spending_to_json
from unet_ray.table.parts import Part, rows_from_cell, rows_to_cell, write_part
from unet_ray.table.plan import Plan, Unit, Units

T = TypeVar("T")
Rows = list[dict[str, Any]]
Load = Callable[[Rows], pa.Table]
"""Planned rows (`schema.PLAN`) of a unit to a table with a row for each."""
Message = tuple[Part, Spending]
"""What a task that wrote a part sends: the part, and what its rows took, by the name of each stage."""
Describe = Callable[[Any, range], pa.Table]
"""What `Infer` made of a unit to the finished rows of the unit, whose numbers are given; others serve them."""

_MOST_TASKS = 20_000
_PROGRESS_TIMEOUT_S = 1800


class Infer(Protocol):
    """What a prediction actor does with the loaded table of one unit."""

    def __call__(self, rows: pa.Table) -> Any:
        """Return what `Describe` takes."""


def transform(plan: Plan, units: Units, load: Load, *, row_group_rows: int) -> Iterator[Message]:
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
    describe: Describe,
    resources: Resources,
    *,
    units_per_task: int,
    units_per_part: int,
    around: int = 0,
) -> Iterator[Message]:
    """Compute units in overlapping stages: load in tasks, infer and describe in a pool of actors, write in tasks.

    While an actor infers a unit, it describes others in further threads, so that a device waits for no core.

    ``around`` is how many rows before and after a unit, of its groups, are loaded with it (`Plan.read`).
    """
    _configure()
    loaded = in_tasks(units, units_per_task, functools.partial(_load, plan=plan, load=load, around=around))
    inferred = loaded.map_batches(
        _Actor,
        batch_size=None,
        batch_format="pyarrow",
        zero_copy_batch=True,
        compute=ActorPoolStrategy(
            min_size=resources.num_networks,
            max_size=resources.num_networks + resources.spare_networks,
            max_concurrent_calls_per_actor=resources.units_in_hand,
            enable_true_multi_threading=True,
        ),
        fn_constructor_kwargs={
            "plan": plan,
            "network": network,
            "kwargs": dict(network_kwargs),
            "describe": describe,
        },
        num_cpus=resources.cpus_per_network,
        num_gpus=1 / resources.sharers if resources.device == "gpu" else 0,
        label_selector=resources.node_labels,
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
    yield from in_tasks(items, items_per_task, functools.partial(_outlast, stage=stage)).iter_rows()


def _outlast(item: T, *, stage: Callable[[T], pa.Table]) -> pa.Table:
    """Run a stage; a store that stops answering is outlasted, item by item."""
    return outlast(functools.partial(stage, item))


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
    """Run the stage on the items of some tasks."""
    sequence = ray.get(items)
    for task in batch["id"].tolist():
        first, end = (len(sequence) * bound // num_tasks for bound in (task, task + 1))
        for item in sequence[first:end]:
            yield stage(item)


def _configure() -> None:
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_no_progress_timeout_s = _PROGRESS_TIMEOUT_S


def _messages(dataset: Dataset) -> Iterator[Message]:
    for row in dataset.iter_rows():
        yield _read_message(row)


def _read_message(row: Mapping[str, str]) -> Message:
    return Part.from_json(row["part"]), spending_from_json(row["spending"])


def _write_message(part: Part, spending: Spending) -> dict[str, str]:
    return {"part": part.to_json(), "spending": spending_to_json(spending)}


def _transform(unit: Unit, *, plan: Plan, load: Load, row_group_rows: int) -> pa.Table:
    with (loading := Clock()):
        rows = outlast(lambda: load(plan.read(unit)))
    with (writing := Clock()):
        part = outlast(lambda: write_part(plan, [unit], rows, row_group_rows=row_group_rows))
    return pa.Table.from_pylist([_write_message(part, {"load": loading.spent, "write": writing.spent})])


def _load(unit: Unit, *, plan: Plan, load: Load, around: int) -> pa.Table:
    with (loading := Clock()):
        rows = outlast(lambda: load(plan.read(unit, around)))
    return _pack(unit, rows, {"load": loading.spent})


class _Actor:
    """Infers one unit at a time, in a thread of its own, while it describes others in those that call it."""

    def __init__(
        self, plan: Plan, network: Callable[..., Infer], kwargs: Mapping[str, Any], describe: Describe
    ) -> None:
        self._plan = plan
        self._network = outlast(functools.partial(network, **kwargs))
        self._describe = describe
        self._inferring = ThreadPoolExecutor(max_workers=1)
        self._describing = Spent()
        self._lock = Lock()

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        for unit, rows, spending in _unpack(batch):
            inferred, inferring = self._inferring.submit(self._infer, rows).result()
            with (describing := Clock(of_thread=True)):
                described = self._describe(inferred, self._plan.row_ids(unit))
            with self._lock:
                self._describing += describing.spent
            yield _pack(unit, described, {**spending, "infer": inferring, "describe": describing.spent})

    def _infer(self, rows: pa.Table) -> tuple[Any, Spent]:
        """Infer a unit; what this takes of the cores is what the process does, less what it describes meanwhile."""
        before = self._describing
        with (inferring := Clock()):
            inferred = self._network(rows)
        meanwhile = self._describing.cpu_seconds - before.cpu_seconds
        return inferred, inferring.spent - Spent(cpu_seconds=meanwhile)


def _write(batch: pa.Table, *, plan: Plan) -> pa.Table:
    by_shard: dict[int, list[tuple[Unit, pa.Table, Spending]]] = {}
    for unit, rows, spending in sorted(_unpack(batch), key=lambda item: item[0]):
        by_shard.setdefault(unit.shard, []).append((unit, rows, spending))
    messages = []
    for members in by_shard.values():
        units, tables, spendings = zip(*members, strict=True)
        with (writing := Clock()):
            part = outlast(functools.partial(write_part, plan, units, pa.concat_tables(tables)))
        before = {stage: sum((one[stage] for one in spendings), Spent()) for stage in spendings[0]}
        messages.append(_write_message(part, {**before, "write": writing.spent}))
    return pa.Table.from_pylist(messages)


def _pack(unit: Unit, rows: pa.Table, spending: Spending) -> pa.Table:
    return pa.table(
        {
            "shard": [unit.shard],
            "unit": [unit.index],
            "spending": [spending_to_json(spending)],
            "rows": rows_to_cell(rows),
        }
    )


def _unpack(batch: pa.Table) -> Iterator[tuple[Unit, pa.Table, Spending]]:
    columns = (batch[name].to_pylist() for name in ("shard", "unit", "spending"))
    for shard, index, spending, cell in zip(*columns, batch["rows"], strict=True):
        yield Unit(shard, index), rows_from_cell(cell), spending_from_json(spending)
