"""Feeding a train worker: Ray Data executions carry its batches, training and validation, in order.

Decoding and augmentation run in Ray Data tasks, ahead of the network and across the ends of epochs. What a batch
holds follows from the schedule and the seed alone, so a restarted worker gets the very same ones. Ray Data stores an
object for each task before the first one runs, so a long run is many executions, each started before it is needed.
"""

import functools
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray
from ray.data import DataContext, ExecutionResources
from ray.data._internal.execution.backpressure_policy import (
    ENABLED_BACKPRESSURE_POLICIES,
    ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY,
    BackpressurePolicy,
)

from unet_ray.augment.colour import normalise_colour
from unet_ray.augment.keys import make_rng
from unet_ray.augment.pair import augment_pair
from unet_ray.config_input import ImagesSection
from unet_ray.config_training import AugmentSection
from unet_ray.datasets.frames import load_frames
from unet_ray.datasets.prepared import ROW_GROUP_ROWS, read_pair
from unet_ray.images.decode import decode_plain
from unet_ray.images.encode import decode_stored_mask
from unet_ray.labels.classes import ClassMap
from unet_ray.losses.borders import Borders, border_weights
from unet_ray.pipeline import in_tasks
from unet_ray.table.parts import rows_from_cell, rows_to_cell
from unet_ray.train.ahead import in_parts
from unet_ray.train.schedule import Item, Schedule, epoch_order

_ITEMS_PER_TASK = 8
_ITEMS_PER_EXECUTION = 64 * _ITEMS_PER_TASK
_LEAD_ITEMS = _ITEMS_PER_EXECUTION // 4
_PAUSE_S = 0.05
_AHEAD_BYTES = 128 * 2**20

CROPS = pa.schema(
    [
        pa.field("image", pa.large_binary()),  # (h + 2 * margin, w + 2 * margin, 3) uint8 RGB rows
        pa.field("mask", pa.large_binary()),  # (h, w) uint8 class ids
        pa.field("colour", pa.large_binary()),  # (3, 4) float32: colour change and normalisation in one
        pa.field("border", pa.large_binary()),  # (h, w) float16 weights beside the classes', null for none
    ]
)
"""Augmented training crops on their way to a train worker."""


class _Unhurried(BackpressurePolicy):
    """Makes the executor pause in every round of its loop.

    While the network is slower than the data, which is what one wants, Ray Data 2.60 has nothing to wait for and polls
    without a pause: most of a core, and the interpreter lock of the process that trains.
    """

    @property
    def name(self) -> str:
        return "Unhurried"

    def max_task_output_bytes_to_read(self, op: Any) -> int | None:
        time.sleep(_PAUSE_S)
        return None


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the batches come from. ``train`` and ``val`` are object references of `prepared.index_split` tables.

    ``crop`` is the height and width of training masks; images have ``margin`` px more on each side, which a network
    of unpadded convolutions uses up.
    """

    train: "ray.ObjectRef[pa.Table]"
    val: "ray.ObjectRef[pa.Table] | None"
    part_uris: tuple[str, ...]
    classes: ClassMap
    policy: ImagesSection
    seed: int
    augment: AugmentSection
    crop: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    margin: int = 0
    borders: Borders | None = None


def feed(
    source: Source, schedule: Schedule, first_epoch: int, first_step: int, data_cpus: float
) -> Generator[tuple[Item, pa.Table], None, None]:
    """Yield every item of a worker with its rows (`CROPS` or `FRAMES`); runs in the train worker.

    Args:
        source: Where the batches come from.
        schedule: The worker's work.
        first_epoch: Epoch to start with.
        first_step: Step of that epoch to start with.
        data_cpus: CPUs that this worker's data tasks may take at once.
    """
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_no_progress_timeout_s = -1  # a slow step is no fault of the data
    context.execution_options.preserve_order = True
    context.execution_options.resource_limits = ExecutionResources(cpu=data_cpus, object_store_memory=_AHEAD_BYTES)
    context.set_config(ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY, [*ENABLED_BACKPRESSURE_POLICIES, _Unhurried])
    stage = functools.partial(_make_item, source=source, schedule=schedule)

    def run(items: list[Item]) -> Iterator[pa.Table]:
        batches = in_tasks(items, _ITEMS_PER_TASK, stage)
        for batch in batches.iter_batches(batch_size=1, batch_format="pyarrow", prefetch_batches=4):
            yield rows_from_cell(batch["rows"][0])

    yield from in_parts(schedule.all_items(first_epoch, first_step), _ITEMS_PER_EXECUTION, _LEAD_ITEMS, run)


def _make_item(item: Item, *, source: Source, schedule: Schedule) -> pa.Table:
    rows = _make_crops(item, source, schedule) if item.kind == "train" else _make_frames(item, source, schedule)
    return pa.table({"rows": rows_to_cell(rows)})


def _make_crops(item: Item, source: Source, schedule: Schedule) -> pa.Table:
    crops = [make_crop(row, source, item.epoch) for row in train_rows(item, source, schedule)]
    return pa.Table.from_pylist(crops, schema=CROPS)


def train_rows(item: Item, source: Source, schedule: Schedule) -> list[dict[str, Any]]:
    """Return the rows of the training index that a training batch is made of."""
    positions = schedule.train_positions(_order(source.train, source.seed, item.epoch), item.number)
    rows: list[dict[str, Any]] = ray.get(source.train).take(pa.array(positions)).to_pylist()
    return rows


def make_crop(row: Mapping[str, Any], source: Source, epoch: int) -> dict[str, bytes | None]:
    """Return the augmented crop (`CROPS`) of a row of the training index in an epoch."""
    data, png = read_pair(source.part_uris[row["part"]], row["part_row"])
    image = decode_plain(data)
    mask = decode_stored_mask(png, image.shape[0], image.shape[1], "png")
    rngs = functools.partial(make_rng, source.seed, epoch, row["image_id"])
    crop = augment_pair(image, mask, source.augment, rngs, source.crop, source.margin)
    mean, std = np.array(source.mean, np.float32), np.array(source.std, np.float32)
    colour = normalise_colour(crop.colour, mean, std)
    border = border_weights(crop.mask, source.borders).astype(np.float16).tobytes() if source.borders else None
    return {
        "image": crop.image.tobytes(),
        "mask": crop.mask.tobytes(),
        "colour": colour.tobytes(),
        "border": border,
    }


def _make_frames(item: Item, source: Source, schedule: Schedule) -> pa.Table:
    assert source.val is not None
    rows = ray.get(source.val).take(pa.array(list(schedule.eval_positions(item.number)))).to_pylist()
    located = [row | {"part_uri": source.part_uris[row["part"]]} for row in rows]
    return load_frames(located, classes=source.classes, policy=source.policy)


@functools.lru_cache(maxsize=2)
def _order(train: "ray.ObjectRef[pa.Table]", seed: int, epoch: int) -> NDArray[np.int64]:
    index = ray.get(train)
    part, row = index["part"].to_numpy().astype(np.int64), index["part_row"].to_numpy()
    return epoch_order(part * 2**32 + row // ROW_GROUP_ROWS, seed, epoch)
