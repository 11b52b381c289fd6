"""The stages in one process, without Ray: the drivers of `prepare` and `predict` are the real ones, as are the stages
of `pipeline`; only the executor that hands units from one to the next is a loop."""

import os
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

# Loaded before the fork, so that a trial does not pay for it.
import obstore.store  # noqa: F401
import pyarrow.parquet
import s3fs  # noqa: F401
import torch

from unet_ray import pipeline, prepare, runtime
from unet_ray.checkpoint import ModelCard, save_checkpoint
from unet_ray.config import Config
from unet_ray.datasets.prepared import open_dataset
from unet_ray.errors import UnetRayError
from unet_ray.predict import run as predict
from unet_ray.resources import Resources
from unet_ray.table.plan import Plan, Units


def run_stage(stage: str, config: Config, environment: Mapping[str, str], said: Connection) -> None:
    """Run a stage to its end; say the exit code the command would have, and the error."""
    os.environ.update(environment)
    torch.set_num_threads(1)
    pipeline.transform = transform  # type: ignore[assignment]
    pipeline.infer = infer  # type: ignore[assignment]
    pipeline.collect = collect  # type: ignore[assignment]
    runtime.require_cpus = lambda scaling: 1
    runtime.describe_cluster = lambda: "this process"
    runtime.plan_prediction = lambda *_: Resources(  # type: ignore[assignment]
        device="cpu", num_networks=1, cpus_per_network=1, threads_per_network=1, data_cpus=1
    )
    try:
        {"prepare": prepare.run, "predict": predict.run, "checkpoint": write_checkpoint}[stage](config)
    except UnetRayError as error:
        said.send((2, str(error)))
    except BaseException:
        said.send((1, traceback.format_exc()))
    else:
        said.send((0, ""))
    os._exit(0)  # an orderly end of this interpreter takes as long as the trial


def transform(plan: Plan, units: Units, load: pipeline.Load, *, row_group_rows: int) -> Iterator[pipeline.Message]:
    for unit in units:
        yield from messages(pipeline._transform(unit, plan=plan, load=load, row_group_rows=row_group_rows))


def collect(items: Sequence[Any], items_per_task: int, stage: Callable[[Any], pyarrow.Table]) -> Iterator[Any]:
    for item in items:
        yield from stage(item).to_pylist()


def infer(
    plan: Plan,
    units: Units,
    load: pipeline.Load,
    network: type[pipeline.Infer],
    network_kwargs: Mapping[str, Any],
    describe: pipeline.Describe,
    resources: Resources,
    *,
    around: int,
    **_: int,
) -> Iterator[pipeline.Message]:
    actor = pipeline._Actor(plan, network, network_kwargs, describe)
    for unit in units:
        for inferred in actor(pipeline._load(unit, plan=plan, load=load, around=around)):
            yield from messages(pipeline._write(inferred, plan=plan))


def messages(batch: "pyarrow.Table") -> Iterator[pipeline.Message]:
    yield from map(pipeline._read_message, batch.to_pylist())


def write_checkpoint(config: Config) -> None:
    """Write a checkpoint of a network that has learnt nothing, for `predict`."""
    prepared = open_dataset(config.dataset_uri)
    card = ModelCard(
        class_map=prepared.classes,
        model=config.model,
        mean=prepared.stats["mean"],
        std=prepared.stats["std"],
        input_size=None,
        dataset_run_id=prepared.table.plan.run_id,
    )
    torch.manual_seed(0)
    model = card.build()
    save_checkpoint(
        config.train_uri,
        card=card,
        model=model,
        optimizer=torch.optim.AdamW(model.parameters()),
        step=1,
        epoch=1,
        score=None,
        progress={"history": [], "finished": True},
    )
