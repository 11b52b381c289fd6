"""Time to a score: ``python -m tests.bench.race CONFIG DATASET THREADS [key=value ...]``, minutes to an hour.

Ours, by `recipes`, against what one would write otherwise: the same network in a plain PyTorch script, and the U-Net
with a ResNet34 encoder of segmentation-models-pytorch, without weights, where that is installed. The scripts train in
fp32 on whole frames which are in memory already, with flips, cross-entropy and Adam. All learn from the same pairs and
validate on the same ones before the first epoch, when the clock starts, and after every other, while it runs. They have
the same threads, one after the other, a process each.
"""

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unet_ray.config import Config
from unet_ray.config_file import load_config
from unet_ray.datasets.frames import load_frames, view_frames
from unet_ray.datasets.prepared import Prepared, index_split, open_dataset
from unet_ray.metrics import count_confusion, score
from unet_ray.model.unet import UNet
from unet_ray.runtime import KEEP_HEAP
from unet_ray.schema import IGNORE_INDEX

GOAL = 0.45
BATCH = 4
STRIDE = 32
MOST = 3.5
"""The scripts are stopped after this many times our time."""


def main() -> None:
    """Race, or be one of the scripts."""
    if sys.argv[1] in ("plain", "smp"):
        script(*sys.argv[1:5])
        return
    path, uri, threads, *options = sys.argv[1:]
    command = ["tests.bench.recipes", path, uri, threads, "train.eval_every=1", *options]
    ours = race("ours", command, KEEP_HEAP, limit_s=None)
    for name in ("plain", "smp"):
        if name == "plain" or importlib.util.find_spec("segmentation_models_pytorch"):
            theirs = race(name, ["tests.bench.race", name, path, uri, threads], {}, limit_s=MOST * ours)
            sys.stdout.write(f"ours / {name}: {ours / theirs:.2f}\n")


def race(name: str, command: list[str], environment: Mapping[str, str], limit_s: float | None) -> float:
    """Return the seconds a process took from its first line to the one that reports the goal, or to its limit."""
    with subprocess.Popen(
        [sys.executable, "-m", *command], stdout=subprocess.PIPE, env={**os.environ, **environment}, text=True
    ) as process:
        started = None
        assert process.stdout is not None
        for line in process.stdout:
            started = started or time.monotonic()
            seconds, found = time.monotonic() - started, json.loads(line)
            sys.stdout.write(f"{name}: {seconds:.0f} s: {line}")
            sys.stdout.flush()
            if found["miou"] >= GOAL or (limit_s is not None and seconds >= limit_s):
                process.kill()
                return seconds
    raise RuntimeError(f"{name} ended without a validation mIoU of {GOAL}")


def script(name: str, path: str, uri: str, threads: str) -> None:
    """Train as most scripts do until somebody ends it."""
    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    config, prepared = load_config(path), open_dataset(uri)
    model = make_model(name, prepared, config)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    criterion = nn.CrossEntropyLoss(ignore_index=IGNORE_INDEX)
    images, masks = load(prepared, config, "train")
    held_out = load(prepared, config, "val")
    report(0, validate(model, *held_out, prepared.classes.num_classes))
    for epoch in range(1, 1000):
        for chosen in torch.randperm(len(images)).split(BATCH):
            optimizer.zero_grad()
            image, mask = flip(images[chosen], masks[chosen])
            loss = criterion(model(image), mask.long())
            loss.backward()
            optimizer.step()
        report(epoch, validate(model, *held_out, prepared.classes.num_classes))


def make_model(name: str, prepared: Prepared, config: Config) -> nn.Module:
    """Return the network of a script."""
    num_classes = prepared.classes.num_classes
    if name == "plain":
        return UNet(num_classes, config.model.width, config.model.depth)
    smp = importlib.import_module("segmentation_models_pytorch")
    model: nn.Module = smp.Unet("resnet34", encoder_weights=None, classes=num_classes)
    return model


def load(prepared: Prepared, config: Config, split: str) -> tuple[Tensor, Tensor]:
    """Return all frames of a split, ``(N, 3, H, W)`` float32 and ``(N, H, W)`` uint8, padded to what networks take."""
    parts = prepared.table.part_uris()
    rows = [row | {"part_uri": parts[row["part"]]} for row in index_split(prepared, split).to_pylist()]
    frames = [
        frame for frame in view_frames(load_frames(rows, classes=prepared.classes, policy=config.images)) if frame
    ]
    images = np.stack([pad(image, 0) for image, _ in frames])
    masks = np.stack([pad(mask, IGNORE_INDEX) for _, mask in frames if mask is not None])
    mean, std = (np.array(prepared.stats[key], np.float32) for key in ("mean", "std"))
    return torch.from_numpy(((images - mean) / std).transpose(0, 3, 1, 2).copy()), torch.from_numpy(masks)


def pad(plane: NDArray[np.uint8], value: int) -> NDArray[np.uint8]:
    """Pad on the right and at the bottom."""
    sides = [(0, -side % STRIDE) for side in plane.shape[:2]]
    return np.pad(plane, [*sides, (0, 0)][: plane.ndim], constant_values=value)


def flip(images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Mirror every other pair, by chance."""
    pairs = [
        (image.flip(-1), mask.flip(-1)) if torch.rand(()) < 0.5 else (image, mask)
        for image, mask in zip(images, masks, strict=True)
    ]
    images, masks = (torch.stack(planes) for planes in zip(*pairs, strict=True))
    return images, masks


def validate(model: nn.Module, images: Tensor, masks: Tensor, num_classes: int) -> float:
    """Return the mIoU over all frames."""
    model.eval()
    counts = np.zeros((num_classes, num_classes), np.int64)
    with torch.no_grad():
        for found, mask in predict(model, images, masks):
            counts += count_confusion(mask, found, num_classes)
    model.train()
    return score(counts).miou or 0.0


def predict(model: nn.Module, images: Tensor, masks: Tensor) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Give the predicted mask and the true one of each frame."""
    for image, mask in zip(images.split(BATCH), masks.split(BATCH), strict=True):
        yield from zip(model(image).argmax(1).to(torch.uint8).numpy(), mask.numpy(), strict=True)


def report(epoch: int, miou: float) -> None:
    """Write a line."""
    sys.stdout.write(json.dumps({"epoch": epoch, "miou": round(miou, 4)}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
