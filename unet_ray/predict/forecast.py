"""``unet-ray plan``: how long a prediction will take and what it will cost, told from a sample that is segmented here.

Runs on one machine, without Ray, with the functions that tasks and actors run; nothing is written to the store. What
Ray adds to move frames between processes, and what a store takes to receive the masks, is not in it.
"""

import logging
import math
import multiprocessing
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import torch

from unet_ray.columns import align
from unet_ray.config import Arithmetic, Config, NodeType, ScalingSection
from unet_ray.datasets.frames import load_frames
from unet_ray.errors import DatasetError
from unet_ray.exported import Model
from unet_ray.predict.describe import Describe
from unet_ray.predict.network import Network
from unet_ray.predict.plan import choose_arithmetic, open_model, plan_sample, rows_around
from unet_ray.resources import Node, Resources, divide_for_prediction, this_machine
from unet_ray.runtime import KEEP_HEAP
from unet_ray.spending import Clock
from unet_ray.table.parts import Part, write_part
from unet_ray.table.plan import Plan, Unit

logger = logging.getLogger(__name__)

Device = Literal["cpu", "gpu"]
Limit = Literal["cores", "data tasks", "counting", "network"]

_THIS = "this machine"
_STAGES = {"load": "fetch and decode", "infer": "segment", "describe": "count and encode", "write": "write"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """Seconds for a frame: from beginning to end in one process, and of all cores together."""

    seconds: float
    cpu_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeForecast:
    """What one node of a kind does.

    ``limit`` is what it waits for: cores, data tasks (their number times what one has to wait for the store), counting
    beside a GPU, or the network. Where the network was timed on another device, it is left out, and the rest is
    ``at_most``.
    """

    cpus: int
    gpus: int
    frames_per_s: float
    at_most: bool
    limit: Limit
    hours: float
    price: float | None
    price_per_million: float | None


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What `run` found: the stages by name, and what a node of each kind takes for all ``frames``.

    ``cpus_per_gpu`` are the cores that keep one GPU busy, its predictor's included; None where none was timed.
    """

    frames: int
    timed: int
    quarantined: int
    device: Device
    stages: Mapping[str, Stage]
    bytes_per_frame: int
    cpus_per_gpu: int | None
    nodes: Mapping[str, NodeForecast]


def run(config: Config) -> Forecast:
    """Segment ``plan.frames`` frames, drawn evenly over all that ``predict`` would take, and tell what all will take.

    Raises:
        CheckpointError, ConfigError, DatasetError: As `predict.run`.
        DatasetError: None of the drawn frames could be decoded.
        ResourceError: ``scaling.device`` is a GPU, and this machine has none.
    """
    model = open_model(config)
    gpus = torch.cuda.device_count()
    resources = divide_for_prediction(config.scaling, [this_machine(gpus)])
    precision = choose_arithmetic(config, model, resources.device)
    units_wanted = -(-config.plan.frames // min(config.predict.batch_size, config.predict.shard_rows))
    with tempfile.TemporaryDirectory() as folder:
        plan, num_frames = plan_sample(config, model, precision, f"{folder}/sample", units_wanted)
        logger.info(
            "timing %d of %d frames in %s on a %s with %d thread(s)",
            plan.num_rows, num_frames, precision, resources.device, resources.threads_per_network,
        )  # fmt: skip
        with _actor_process() as process:
            stages, parts = process.submit(_time, plan, model, config, resources, precision).result()
    num_ok = sum(part.num_ok for part in parts)
    if not num_ok:
        errors = sum((Counter(part.errors) for part in parts), Counter[str]())
        raise DatasetError(
            f"predict: none of {plan.num_rows} frames could be segmented: {dict(errors)}; mend the input"
        )
    result = Forecast(
        frames=num_frames,
        timed=plan.num_rows,
        quarantined=plan.num_rows - num_ok,
        device=resources.device,
        stages=stages,
        bytes_per_frame=sum(part.size_bytes for part in parts) // plan.num_rows,
        cpus_per_gpu=1 + math.ceil(_cpu_seconds(stages, "load", "describe", "write") / stages["infer"].seconds)
        if resources.device == "gpu"
        else None,
        nodes=_forecast_all(config, stages, resources.device, num_frames, gpus),
    )
    sys.stderr.write("\n".join(["", *_format(result), ""]))
    return result


@contextmanager
def _actor_process() -> Iterator[ProcessPoolExecutor]:
    """Start a process with the allocator of the actors that predict, which only a new process can take up."""
    before = {name: os.environ.get(name) for name in KEEP_HEAP}
    os.environ.update(KEEP_HEAP)
    try:
        with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as process:
            yield process
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _time(
    plan: Plan, model: Model, config: Config, resources: Resources, precision: Arithmetic
) -> tuple[dict[str, Stage], list[Part]]:
    """Segment all units of a plan; return the seconds for a frame, and what was written."""
    network = Network(model.info, resources.device, resources.threads_per_network, precision, config.predict)
    describe = Describe(section=config.predict, num_classes=model.card.class_map.num_classes, estimator=model.estimator)
    units = list(plan.units(range(plan.num_shards)))

    def process(unit: Unit, clocks: Mapping[str, Clock]) -> Part:
        with clocks["load"]:
            frames = load_frames(
                plan.read(unit, rows_around(config.predict)), classes=model.card.class_map, policy=config.images
            )
        with clocks["infer"]:
            segmented = network(frames)
        with clocks["describe"]:
            rows = describe(segmented, plan.row_ids(unit))
        with clocks["write"]:
            return write_part(plan, [unit], rows)

    process(units[0], {name: Clock() for name in _STAGES})  # the first time is slow, and no part of a long job
    clocks = {name: Clock() for name in _STAGES}
    parts = [process(unit, clocks) for unit in units]
    stages = {
        name: Stage(seconds=clock.spent.seconds / plan.num_rows, cpu_seconds=clock.spent.cpu_seconds / plan.num_rows)
        for name, clock in clocks.items()
    }
    return stages, parts


def _forecast_all(
    config: Config, stages: Mapping[str, Stage], device: Device, num_frames: int, gpus: int
) -> dict[str, NodeForecast]:
    here = NodeType(cpus=max(2, os.cpu_count() or 2), gpus=gpus)
    kinds = {_THIS: here, **(config.plan.nodes or {})}
    scaling = replace(config.scaling, device="auto") if config.scaling.device == "gpu" else config.scaling
    return {name: forecast(stages, device, node, scaling, num_frames) for name, node in kinds.items()}


def forecast(
    stages: Mapping[str, Stage], device: Device, node: NodeType, scaling: ScalingSection, num_frames: int
) -> NodeForecast:
    """Tell what a node takes: data tasks, predictors and cores work at the same time, and the slowest decides.

    Args:
        stages: Seconds for a frame of "load", "infer", "describe" and "write".
        device: What "infer" was timed on.
        node: The kind of node.
        scaling: Tells the number of predictors.
        num_frames: Frames to segment.

    Raises:
        ResourceError: ``scaling.predictors`` do not fit on the node.
    """
    resources = divide_for_prediction(scaling, [Node(cpus=node.cpus, gpus=node.gpus)])
    known = resources.device == device
    work = ("load", "describe", "write") + (("infer",) if known else ())
    rates: dict[Limit, float] = {
        "data tasks": resources.data_cpus / (stages["load"].seconds + stages["write"].seconds),
        "cores": node.cpus / _cpu_seconds(stages, *work),
    }
    if resources.device == "gpu":
        counting = resources.num_networks * (resources.units_in_hand - 1)
        rates["counting"] = counting / stages["describe"].seconds
        if known:
            rates["network"] = resources.num_networks / resources.sharers / stages["infer"].seconds
    limit = min(rates, key=lambda name: rates[name])
    hours = num_frames / rates[limit] / 3600
    return NodeForecast(
        cpus=node.cpus,
        gpus=node.gpus,
        frames_per_s=rates[limit],
        at_most=not known,
        limit=limit,
        hours=hours,
        price=None if node.price is None else node.price * hours,
        price_per_million=None if node.price is None else node.price * 1e6 / rates[limit] / 3600,
    )


def _cpu_seconds(stages: Mapping[str, Stage], *names: str) -> float:
    """Return what some stages take of the cores for a frame."""
    return sum(stages[name].cpu_seconds for name in names)


def _format(result: Forecast) -> list[str]:
    """Return a table of the stages and one of the nodes."""
    cells = [["", "ms a frame", "of all cores", "frames/s of one"]]
    for name, stage in result.stages.items():
        milliseconds = (f"{1000 * seconds:.2f}" for seconds in (stage.seconds, stage.cpu_seconds))
        cells.append([_STAGES[name], *milliseconds, f"{1 / stage.seconds:,.1f}"])
    kinds = [[f"{result.frames:,} frames", "frames/s", "waits for", "hours", "price", "price of a million"]]
    for name, node in result.nodes.items():
        prices = ("-" if price is None else f"{price:,.2f}" for price in (node.price, node.price_per_million))
        rate = f"{'< ' if node.at_most else ''}{node.frames_per_s:,.1f}"
        kinds.append([name, rate, node.limit, f"{'> ' if node.at_most else ''}{node.hours:,.2f}", *prices])
    return [*align(cells), "", *align(kinds)]
