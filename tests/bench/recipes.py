"""What settings are worth, in one process: ``python -m tests.bench.recipes CONFIG DATASET THREADS [key=value ...]``.

Trains as ``unet-ray train`` does, by the same loop on the same crops, but without Ray, so that several settings can be
tried side by side, a thread each, with no more than the processor between them. Prints a line for each epoch and at the
end the best. Start it with the environment of `runtime.KEEP_HEAP`.
"""

import json
import sys
import tempfile
import time
from collections.abc import Generator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from unet_ray.checkpoint import ModelCard
from unet_ray.config import Config
from unet_ray.config_file import load_config
from unet_ray.datasets.frames import load_frames
from unet_ray.datasets.prepared import Prepared, index_split, open_dataset
from unet_ray.model.segmenter import resolve_precision
from unet_ray.train.feed import CROPS, Source, make_crop
from unet_ray.train.loop import Job, train
from unet_ray.train.run import class_weights
from unet_ray.train.schedule import Item, Schedule, epoch_order

CPU = torch.device("cpu")


class Printer:
    """Stands for the queue to the driver: prints what each epoch came to."""

    def put(self, message: Mapping[str, Any]) -> None:
        if row := message.get("epoch_done"):
            names = ("epoch", "train_loss", "miou", "pixel_accuracy", "samples_per_s")
            sys.stdout.write(json.dumps({name: row[name] for name in names}) + "\n")
            sys.stdout.flush()


def main() -> None:
    """Train, and print the best epoch."""
    path, uri, threads, *options = sys.argv[1:]
    torch.set_num_threads(int(threads))
    with tempfile.TemporaryDirectory() as scratch:
        overrides = dict(option.split("=", 1) for option in options) | {"run.storage": scratch}
        config, prepared = load_config(path, overrides), open_dataset(uri)
        started = time.monotonic()
        history = run(config, prepared, int(threads))
    best = max((row for row in history if row["miou"] is not None), key=lambda row: row["miou"])
    ious = dict(zip(prepared.classes.classes, best["class_iou"], strict=True))
    found = {"options": options, "seconds": round(time.monotonic() - started), "class_iou": ious}
    found |= {name: best[name] for name in ("epoch", "miou", "pixel_accuracy")}
    sys.stdout.write(json.dumps(found) + "\n")


def run(config: Config, prepared: Prepared, threads: int) -> list[dict[str, Any]]:
    """Return the history of a training run in this process."""
    train_rows, val_rows = (index_split(prepared, split) for split in ("train", "val"))
    crop = config.crop_of(train_rows["height"][0].as_py(), train_rows["width"][0].as_py())
    mean, std = prepared.stats["mean"], prepared.stats["std"]
    card = ModelCard(
        class_map=prepared.classes, model=config.model, mean=tuple(mean), std=tuple(std), input_size=prepared.resize,
        dataset_run_id="",
    )  # fmt: skip
    unused: Any = None
    source = Source(
        train=unused, val=unused, part_uris=tuple(prepared.table.part_uris()), classes=prepared.classes,
        policy=config.images, seed=config.run.seed, augment=config.augment, crop=crop, mean=card.mean, std=card.std,
        margin=config.model.sizes.margin,
    )  # fmt: skip
    schedule = Schedule(
        num_train=len(train_rows), num_eval=len(val_rows), batch_size=config.train.batch_size,
        batches_per_step=config.train.accumulate, eval_batch_size=config.predict.batch_size,
        epochs=config.train.epochs, eval_every=config.train.eval_every, rank=0, world_size=1,
    )  # fmt: skip
    progress: Any = Printer()
    job = Job(
        config=config, card=card, source=source, schedule=schedule, class_weights=class_weights(config, prepared),
        precision=resolve_precision(config.scaling.precision, CPU), threads=threads, data_cpus=1,
        until_epoch=config.train.epochs, progress=progress,
    )  # fmt: skip

    def rows(item: Item) -> pa.Table:
        if item.kind == "eval":
            chosen = val_rows.take(pa.array(list(schedule.eval_positions(item.number)))).to_pylist()
            located = [row | {"part_uri": source.part_uris[row["part"]]} for row in chosen]
            return load_frames(located, classes=source.classes, policy=source.policy)
        order = epoch_order(np.arange(len(train_rows)), config.run.seed, item.epoch)
        chosen = train_rows.take(pa.array(schedule.train_positions(order, item.number))).to_pylist()
        return pa.Table.from_pylist([make_crop(row, source, item.epoch) for row in chosen], schema=CROPS)

    def feed(first_epoch: int, first_step: int) -> Generator[tuple[Item, pa.Table], None, None]:
        for item in schedule.all_items(first_epoch, first_step):
            yield item, rows(item)

    return train(job, schedule, CPU, None, feed, lambda model: model)


if __name__ == "__main__":
    main()
