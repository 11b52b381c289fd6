"""A whole training run in milliseconds, without Ray: the loop is the real one, the feed draws its crops itself."""

import time
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from tests.unit.tiny_training import CARD
from unet_ray.augment.colour import normalise_colour
from unet_ray.checkpoint import resume_checkpoint
from unet_ray.config import Config, RunSection, ScalingSection
from unet_ray.config_training import OptimSection, TrainSection
from unet_ray.datasets.frames import FRAMES
from unet_ray.train.feed import CROPS, Source
from unet_ray.train.loop import Job, train
from unet_ray.train.schedule import Item, Schedule, epoch_order

CROP = (8, 12)
NUM_TRAIN, NUM_EVAL = 18, 4
CLOCKS = ("samples_per_s", "data_wait_s", "step_s", "sharing_s", "validation_s", "seconds", "peak_memory_mib")


class Killed(Exception):
    """Stands for the end of a worker's process."""


class Sent(list[dict[str, Any]]):
    """What a queue would have carried."""

    def put(self, message: dict[str, Any]) -> None:
        self.append(message)


def make_config(
    root: Path, optim: OptimSection | None = None, *, workers: int | tuple[int, int] = 1, **train_options: Any
) -> Config:
    return Config(
        run=RunSection(storage=str(root)),
        optim=optim or OptimSection(),
        train=TrainSection(**{"epochs": 2, "batch_size": 4, **train_options}),
        scaling=ScalingSection(num_workers=workers),
    )


def make_job(config: Config, precision: str = "fp32") -> Job:
    source = Source(
        train=None, val=None, part_uris=(), classes=CARD.class_map, policy=config.images, seed=0,
        augment=config.augment, crop=CROP, mean=CARD.mean, std=CARD.std,
    )  # type: ignore[arg-type]  # fmt: skip
    schedule = Schedule(
        num_train=NUM_TRAIN, num_eval=NUM_EVAL, batch_size=config.train.batch_size,
        batches_per_step=config.train.accumulate * config.scaling.workers[1], eval_batch_size=2,
        epochs=config.train.epochs, eval_every=config.train.eval_every, rank=0, world_size=1,
    )  # fmt: skip
    return Job(
        config=config, card=CARD, source=source, schedule=schedule, class_weights=(1.0, 2.0, 0.5),
        precision=precision, threads=1, data_cpus=1, until_epoch=config.train.epochs, progress=Sent(),
    )  # type: ignore[arg-type]  # fmt: skip


def draw(row: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw a pair whose classes can be told by their colours; two rows of the mask are unlabelled."""
    rng = np.random.default_rng(row)
    mask = np.kron(rng.integers(0, 3, (CROP[0] // 4, CROP[1] // 4)), np.ones((4, 4))).astype(np.uint8)
    image = (mask[..., None] * 80 + rng.integers(0, 60, (*CROP, 3))).astype(np.uint8)
    mask[:2] = 255
    return image, mask


def rows_of(item: Item, schedule: Schedule, bad: Callable[[Item], bool] = lambda item: False) -> pa.Table:
    if item.kind == "eval":
        frames = [draw(1000 + position) for position in schedule.eval_positions(item.number)]
        cells = [
            {"height": CROP[0], "width": CROP[1], "image": image.tobytes(), "true_mask": mask.tobytes()}
            for image, mask in frames
        ]
        return pa.Table.from_pylist(cells, schema=FRAMES)
    colour = normalise_colour(np.eye(3, 4, dtype=np.float32), np.array(CARD.mean), np.array(CARD.std))
    colour = np.asarray(colour * np.nan if bad(item) else colour, np.float32)
    order = epoch_order(np.arange(schedule.num_train), 0, item.epoch)
    pairs = [draw(int(row)) for row in schedule.train_positions(order, item.number)]
    cells = [{"image": i.tobytes(), "mask": m.tobytes(), "colour": colour.tobytes()} for i, m in pairs]
    return pa.Table.from_pylist(cells, schema=CROPS)


def run(
    job: Job,
    *,
    rank: int = 0,
    world_size: int = 1,
    killed_at: Callable[[Item], bool] = lambda item: False,
    bad: Callable[[Item], bool] = lambda item: False,
    wait_s: float = 0.0,
    prepare: Callable[[nn.Module], nn.Module] = lambda model: model,
    must_save: Callable[[], bool] = lambda: False,
) -> list[dict[str, Any]]:
    """Train from the last checkpoint of the run, or from the start, to the end; return the history.

    Args:
        job: What to train.
        rank: Rank of this worker.
        world_size: Number of workers.
        killed_at: Raise `Killed` in place of this item.
        bad: Make the pixels of this item no numbers.
        wait_s: How long each item takes to come.
        prepare: As `train` takes it.
        must_save: As `train` takes it.
    """
    schedule = replace(job.schedule, rank=rank, world_size=world_size)

    def feed(first_epoch: int, first_step: int) -> Generator[tuple[Item, pa.Table], None, None]:
        for item in schedule.all_items(first_epoch, first_step):
            time.sleep(wait_s)
            if killed_at(item):
                raise Killed
            yield item, rows_of(item, schedule, bad)

    checkpoint = resume_checkpoint(job.config.train_uri)
    return train(job, schedule, torch.device("cpu"), checkpoint, feed, prepare, must_save)


def timeless(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a history without what differs from run to run."""
    return [{key: value for key, value in row.items() if key not in CLOCKS} for row in history]
