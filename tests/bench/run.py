"""Speed against limits and peers, measured in the same run: ``python -m tests.bench.run [bench.json]``.

Rows are ``{name, value, unit, against, ratio}``: our rate, and what it is divided by. Absolute numbers mean little on
a shared machine; ratios do. Frames are CamVid's where the data lies (``UNET_RAY_DATA``), drawn ones of its size
elsewhere.
"""

import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from tests.bench import labels
from tests.bench.clock import row
from tests.bench.frames import frames
from tests.bench.limits import CLASSES, limit
from tests.bench.prediction import measure_predict
from tests.bench.preparation import measure_prepare
from unet_ray import prepare, runtime
from unet_ray.architecture.trace import trace
from unet_ray.config import Config
from unet_ray.config_file import parse_config
from unet_ray.history import read_history
from unet_ray.model.segmenter import resolve_precision
from unet_ray.train import run as train

WIDTH = 16
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
        },
        {},
        "bench",
    )
    return [
        *measure_labels(),
        *measure_prepare(scratch, images.parent),
        *measure_predict(scratch, images),
        *measure_train(config),
    ]


def measure_labels() -> list[dict[str, Any]]:
    first, warm, plain = labels.measure()
    return [
        row("colours of JPEG masks, first mask", first, "Mpx/s", "search per pixel, NumPy", plain),
        row("colours of JPEG masks, warm", warm, "Mpx/s", "search per pixel, NumPy", plain),
    ]


def measure_train(config: Config) -> list[dict[str, Any]]:
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


if __name__ == "__main__":
    main()
