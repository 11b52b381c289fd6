"""Speed against limits and peers, measured in the same run: ``python -m tests.bench.run [bench.json]``.

Rows are ``{name, value, unit, against, ratio}``: our rate, and what it is divided by. Absolute numbers mean little on
a shared machine; ratios do. Frames are CamVid's where the data lies (``UNET_RAY_DATA``), drawn ones of its size
elsewhere.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import torch

from tests.bench import labels
from tests.bench.clock import Clock, row
from tests.bench.limits import CLASSES
from tests.bench.peers import plain_recipe
from tests.bench.preparation import measure_prepare
from unet_ray import prepare, runtime
from unet_ray.architecture.trace import trace
from unet_ray.checkpoint import ModelCard, save_checkpoint
from unet_ray.config import Config
from unet_ray.config_file import parse_config
from unet_ray.datasets import synthetic
from unet_ray.history import read_history
from unet_ray.labels.scheme import make_class_map
from unet_ray.model.segmenter import resolve_precision
from unet_ray.predict import run as predict
from unet_ray.train import run as train
from unet_ray.train.optimizers import make_optimizer

WIDTH = 16
BATCH = 8
CROP = (240, 320)
TRAIN_BATCH = 4
EPOCHS = 4


def main() -> None:
    """Measure everything and write the rows."""
    output = Path(sys.argv[1] if len(sys.argv) > 1 else "bench.json")
    with tempfile.TemporaryDirectory() as scratch, runtime.connected():
        rows = measure(Path(scratch))
    output.write_text(json.dumps(rows, indent=1) + "\n")
    for one in rows:
        sys.stderr.write(
            f"{one['name']:<44} {one['value']:8.2f} {one['unit']:<10} {one['ratio']:6.2f} x {one['against']}\n"
        )


def measure(scratch: Path) -> list[dict[str, Any]]:
    """Return all rows."""
    images, _ = frames(scratch / "input")
    config = parse_config(
        {
            "run": {"storage": str(scratch), "name": "bench"},
            "data": {"root": str(images.parent)},
            "labels": {"preset": "camvid_11"},
            "model": {"width": WIDTH},
            "augment": {"crop": list(CROP)},
            "train": {"epochs": EPOCHS, "batch_size": TRAIN_BATCH, "eval_every": 100},
            "predict": {"images": str(images), "batch_size": BATCH, "shard_rows": 4 * BATCH},
        },
        {},
        "bench",
    )
    first = next(images.iterdir())
    height, width_px = cv2.imread(str(first)).shape[:2]
    return [
        *measure_labels(),
        *measure_prepare(scratch, images.parent),
        *measure_predict(config, images, scratch, height, width_px),
        *measure_train(config),
    ]


def measure_labels() -> list[dict[str, Any]]:
    first, warm, plain = labels.measure()
    return [
        row("colours of JPEG masks, first mask", first, "Mpx/s", "search per pixel, NumPy", plain),
        row("colours of JPEG masks, warm", warm, "Mpx/s", "search per pixel, NumPy", plain),
    ]


def measure_predict(config: Config, images: Path, scratch: Path, height: int, width_px: int) -> list[dict[str, Any]]:
    save_untrained(config)
    resources = runtime.plan_prediction(config.scaling)
    precision = resolve_precision("auto", torch.device("cpu"))
    threads = resources.num_networks * resources.threads_per_network
    limit_arguments = ("forward", WIDTH, height, width_px, BATCH, precision, threads)
    limits = [limit(*limit_arguments)]
    clock = Clock()
    start = time.perf_counter()
    result = predict.run(config, on_progress=clock)
    seconds = time.perf_counter() - start
    limits.append(limit(*limit_arguments))
    few = scratch / "few"
    few.mkdir()
    for path in sorted(images.iterdir())[::4]:
        (few / path.name).symlink_to(path.resolve())
    plain_all, plain_few = (time_plain(folder, scratch / f"plain_{folder.name}") for folder in (images, few))
    plain = result.frames / plain_all
    plain_steady = (result.frames - len(list(few.iterdir()))) / (plain_all - plain_few)
    whole = result.frames / seconds
    forward = statistics.mean(limits)
    return [
        row("predict, steady", clock.rate(), "frames/s", "forward only, same model", forward),
        row("predict, whole run with start-up", whole, "frames/s", "forward only, same model", forward),
        row("predict, whole run with start-up", whole, "frames/s", "plain Ray recipe, whole run", plain),
        row("predict, steady", clock.rate(), "frames/s", "plain Ray recipe, steady", plain_steady),
    ]


def time_plain(images: Path, output: Path) -> float:
    """Return the seconds of the plain recipe; two runs of different length tell its rate without start-up."""
    start = time.perf_counter()
    plain_recipe(images, output, WIDTH, BATCH)
    return time.perf_counter() - start


def measure_train(config: Config) -> list[dict[str, Any]]:
    shutil.rmtree(config.train_uri)
    prepare.run(config)
    resources = runtime.plan_training(config.scaling)
    precision = resolve_precision("auto", torch.device("cpu"))
    threads = resources.threads_per_network
    limit_arguments = ("step", WIDTH, *CROP, TRAIN_BATCH, precision, threads)
    limits = [limit(*limit_arguments)]
    train.run(config)
    limits.append(limit(*limit_arguments))
    step = statistics.mean(limits)
    plain = limit("plain", WIDTH, *CROP, TRAIN_BATCH, "fp32", threads, environment={})
    ours = statistics.median(epoch["samples_per_s"] for epoch in read_history(config.train_uri) if epoch["epoch"] >= 2)
    giga_operations = 2 * 3 * trace(config.model, CLASSES, CROP).macs / 1e9  # backward: twice the forward pass
    peak = limit("product", 2048, precision, threads)
    return [
        row("train, after the first epoch", ours, "samples/s", "step only", step),
        row("train, after the first epoch", ours, "samples/s", "plain fp32 step, data in memory", plain),
        row("train, step only", giga_operations * step, "GFLOP/s", f"matrix product in {precision}", peak),
    ]


def frames(folder: Path) -> tuple[Path, Path]:
    """Put images and masks side by side: CamVid's, or drawn ones of the same size."""
    images, masks = folder / "images", folder / "masks"
    images.mkdir(parents=True)
    masks.mkdir()
    data = Path(os.environ.get("UNET_RAY_DATA", Path(__file__).parents[3] / "shared" / "data")) / "camvid"
    if data.exists():
        for split in ("train", "val"):
            for path in (data / split).iterdir():
                (images / path.name).symlink_to(path)
                (masks / f"{path.stem}.png").symlink_to(data / f"{split}annot" / f"{path.stem}.png")
        return images, masks
    for number in range(400):
        image, mask = synthetic.render_frame(0, number // 40, number % 40, 360, 480)
        cv2.imwrite(str(images / f"{number:04d}.jpg"), image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
        cv2.imwrite(str(masks / f"{number:04d}.png"), mask)
    return images, masks


def save_untrained(config: Config) -> None:
    """Store a checkpoint of random weights: speed does not depend on them."""
    card = ModelCard(
        class_map=make_class_map(config.labels),
        model=config.model,
        mean=(100.0, 100.0, 100.0),
        std=(60.0, 60.0, 60.0),
        input_size=None,
        dataset_run_id="",
    )
    model = card.build()
    save_checkpoint(
        config.train_uri,
        card=card,
        model=model,
        optimizer=make_optimizer(model, config.optim),
        step=0,
        epoch=0,
        score=None,
        progress={"history": [], "finished": True},
    )


def limit(what: str, *arguments: object, environment: Mapping[str, str] = runtime.KEEP_HEAP) -> float:
    """Measure a limit (`limits`) in a process of its own while Ray idles, by default with the allocator of our jobs."""
    command = [sys.executable, "-m", "tests.bench.limits", what, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **environment})
    return float(done.stdout)


if __name__ == "__main__":
    main()
