"""How fast `predict` is beside its network alone and beside what one would write without it, and as `plan` foretold.

``python -m tests.bench.prediction`` prints these rows alone.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import torch

from tests.bench.clock import print_rows, row
from tests.bench.frames import frames
from tests.bench.limits import limit
from tests.bench.peers import plain_recipe
from unet_ray import runtime
from unet_ray.checkpoint import ModelCard, save_checkpoint
from unet_ray.config import Config
from unet_ray.config_file import parse_config
from unet_ray.labels.scheme import make_class_map
from unet_ray.model.segmenter import resolve_precision
from unet_ray.predict import forecast
from unet_ray.predict import run as predict
from unet_ray.train.optimizers import make_optimizer

BATCH = 8
FORWARD = "forward only, same model"


def measure_predict(scratch: Path, images: Path) -> list[dict[str, Any]]:
    """Return rows for CamVid frames by networks of two widths, and for 1920 x 1080 JPEGs.

    Args:
        scratch: Where inputs and outputs may lie.
        images: A folder of frames of one size.
    """
    half, some, few = (take(images, scratch / name, every) for name, every in (("half", 2), ("some", 4), ("few", 40)))
    large = scratch / "large"
    large.mkdir()
    for path in some.iterdir():
        pixels = cv2.resize(cv2.imread(str(path)), (1920, 1080), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(large / f"{path.stem}.jpg"), pixels, [cv2.IMWRITE_JPEG_QUALITY, 92])
    narrow, wide, full = (make_config(scratch, *of) for of in (("16", images, 16), ("64", half, 64), ("hd", large, 16)))
    whole, rate, rows = compare("width 16", narrow, take(images, scratch / "few16", 4))
    plain, plain_some = (time_plain(folder, scratch / f"plain_{folder.name}") for folder in (images, some))
    frames, frames_some = count(images), count(some)
    rows += [
        row("predict, width 16, whole run", whole, "frames/s", "plain Ray recipe, whole run", frames / plain),
        row(
            "predict, width 16", rate, "frames/s", "plain Ray recipe, steady",
            (frames - frames_some) / (plain - plain_some),
        ),
        row("predict, width 16", rate, "frames/s", "DataLoader, fp32", time_loop(BATCH, 16, some, scratch / "loop16")),
    ]  # fmt: skip
    _, rate, more = compare("width 64", wide, take(half, scratch / "few64", 8))
    rows += [
        *more,
        row("predict, width 64", rate, "frames/s", "DataLoader, fp32", time_loop(4, 64, few, scratch / "loop64")),
        row("predict, width 64", rate, "frames/s", "an image at a time", time_loop(0, 64, few, scratch / "alone64")),
    ]
    return rows + compare("1920 x 1080", full, take(large, scratch / "fewhd", 8))[2]


def compare(name: str, config: Config, few: Path) -> tuple[float, float, list[dict[str, Any]]]:
    """Return the frames per second of a whole run and once it flows, and rows: against its limit and its forecast.

    Another run over a ``few`` of the frames tells the time to start, as for the plain recipe: progress comes in bursts.
    """
    save_untrained(config)
    folder = Path(str(config.predict.images))
    height, width_px = cv2.imread(str(next(folder.iterdir()))).shape[:2]
    resources = runtime.plan_prediction(config.scaling)
    precision = resolve_precision("auto", torch.device("cpu"))
    threads = resources.num_networks * resources.threads_per_network
    batch = max(1, min(BATCH, config.predict.forward_pixels // (height * width_px)))
    arguments = ("forward", config.model.width, height, width_px, batch, precision, threads)
    limits = [limit(*arguments)]
    short, seconds_short = time_predict(
        replace(config, predict=replace(config.predict, images=str(few), output=f"{few}.out"))
    )
    frames, seconds = time_predict(config)
    whole, rate = frames / seconds, (frames - short) / (seconds - seconds_short)
    limits.append(limit(*arguments))
    told = forecast.run(config).nodes["this machine"].frames_per_s
    name = f"predict, {name}"
    return whole, rate, [
        row(name, rate, "frames/s", FORWARD, statistics.mean(limits)),
        row(f"{name}, whole run", whole, "frames/s", FORWARD, statistics.mean(limits)),
        row(name, rate, "frames/s", "what unet-ray plan foretold", told),
    ]  # fmt: skip


def time_predict(config: Config) -> tuple[int, float]:
    """Return the number of frames and the seconds of a whole run."""
    start = time.perf_counter()
    frames = predict.run(config).frames
    return frames, time.perf_counter() - start


def make_config(scratch: Path, name: str, images: Path, width: int) -> Config:
    """Return a run of a network of a width over a folder of frames."""
    document = {
        "run": {"storage": str(scratch), "name": f"predict_{name}"},
        "labels": {"preset": "camvid_11"},
        "model": {"width": width},
        "predict": {
            "images": str(images),
            "batch_size": BATCH,
            "shard_rows": max(1, count(images) // (16 * BATCH)) * BATCH,
        },
        "plan": {"frames": 64},
    }
    return parse_config(document, {}, "bench")


def take(images: Path, folder: Path, every: int) -> Path:
    """Put every so many frames into a folder of their own."""
    folder.mkdir()
    for path in sorted(images.iterdir())[::every]:
        (folder / path.name).symlink_to(path.resolve())
    return folder


def count(folder: Path) -> int:
    """Return the number of files."""
    return len(list(folder.iterdir()))


def time_plain(images: Path, output: Path) -> float:
    """Return the seconds of the plain recipe; two runs of different length tell its rate without start-up."""
    start = time.perf_counter()
    plain_recipe(images, output, 16, BATCH)
    return time.perf_counter() - start


def time_loop(batch: int, width: int, images: Path, output: Path) -> float:
    """Return the images per second of `peers.plain_loop`, in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.peers", str(batch), str(width), str(images), str(output)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


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


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder, runtime.connected():
        images, _ = frames(Path(folder) / "input")
        print_rows(measure_predict(Path(folder), images))


if __name__ == "__main__":
    main()
