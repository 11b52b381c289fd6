"""What the network alone can do on this machine, and what the cores can: run in a process of its own.

``python -m tests.bench.limits forward|onnx|step|plain WIDTH HEIGHT WIDTH_PX BATCH PRECISION THREADS`` prints images per
second, ``python -m tests.bench.limits product SIZE PRECISION THREADS`` 10^9 floating-point operations per second.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

import numpy as np
import torch

from unet_ray import runtime
from unet_ray.config_file import parse_config
from unet_ray.losses.segmentation import SegmentationLoss
from unet_ray.model.onnx_network import OnnxNetwork
from unet_ray.model.portable import to_onnx, trace_program
from unet_ray.model.segmenter import Segmenter
from unet_ray.model.unet import UNet
from unet_ray.train.optimizers import make_optimizer

CLASSES = 11
SECONDS = 12.0
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def forward(width: int, height: int, width_px: int, batch: int, precision: str) -> Callable[[], object]:
    """Return one forward pass of the folded network over a batch that is already normalised: no decode, no argmax."""
    segmenter = Segmenter(UNet(CLASSES, width, 4), [100.0] * 3, [50.0] * 3, torch.device("cpu"), precision)  # type: ignore[arg-type]
    padded = height + -height % 16, width_px + -width_px % 16
    image = torch.randn(batch, 3, *padded, dtype=DTYPES[precision]).to(memory_format=torch.channels_last)

    def run() -> object:
        with torch.inference_mode():
            return segmenter._model(image)

    return run


def onnx(width: int, height: int, width_px: int, batch: int, _: str) -> Callable[[], object]:
    """Return the same pass over the same network by onnxruntime, in fp32, as a predictor with an ONNX file makes it."""
    model, mean, std = UNet(CLASSES, width, 4), [100.0] * 3, [50.0] * 3
    data = to_onnx(trace_program(model, mean, std), {})
    network = OnnxNetwork(data, sizes=model.sizes, reach=None, mean=mean, std=std, num_classes=CLASSES)
    image = torch.randn(batch, 3, height + -height % 16, width_px + -width_px % 16)
    return lambda: network(image)


def step(width: int, height: int, width_px: int, batch: int, precision: str) -> Callable[[], object]:
    """Return one training step on a batch that is already on the device."""
    config = parse_config({}, {}, "bench")
    model = UNet(CLASSES, width, 4).to(memory_format=torch.channels_last)
    optimizer = make_optimizer(model, config.optim)
    image = torch.randn(batch, 3, height, width_px).to(memory_format=torch.channels_last)
    mask = torch.from_numpy(np.random.default_rng(0).integers(0, CLASSES, (batch, height, width_px)))
    criterion = SegmentationLoss(config.loss, torch.ones(CLASSES))

    def run() -> object:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            logits = model(image)
        loss = criterion(logits, mask)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        return loss

    return run


def plain(width: int, height: int, width_px: int, batch: int, precision: str) -> Callable[[], object]:
    """Return one training step as most scripts take it: fp32, channels first, plain Adam and cross-entropy."""
    model = UNet(CLASSES, width, 4)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    image = torch.randn(batch, 3, height, width_px)
    mask = torch.from_numpy(np.random.default_rng(0).integers(0, CLASSES, (batch, height, width_px)))
    criterion = torch.nn.CrossEntropyLoss(ignore_index=255)

    def run() -> object:
        optimizer.zero_grad()
        loss = criterion(model(image), mask)
        loss.backward()
        optimizer.step()
        return loss.item()

    return run


def product(size: int, precision: str) -> Callable[[], object]:
    """Return a product of two square matrices, which is as near to the peak of the cores as anything gets."""
    one, two = (torch.randn(size, size, dtype=DTYPES[precision]) for _ in range(2))
    return lambda: one @ two


def limit(what: str, *arguments: object, environment: Mapping[str, str] = runtime.KEEP_HEAP) -> float:
    """Measure a limit in a process of its own while Ray idles, by default with the allocator of our jobs."""
    command = [sys.executable, "-m", "tests.bench.limits", what, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **environment})
    return float(done.stdout)


def main() -> None:
    """Print the median rate over a few seconds, after a warm-up."""
    what, *numbers, precision, threads = sys.argv[1:]
    arguments = [int(number) for number in numbers]
    torch.set_num_threads(int(threads))
    run = {"forward": forward, "onnx": onnx, "step": step, "plain": plain, "product": product}[what](
        *arguments, precision
    )
    amount = 2 * arguments[0] ** 3 / 1e9 if what == "product" else arguments[-1]
    for _ in range(3):
        run()
    seconds = []
    deadline = time.perf_counter() + SECONDS
    while time.perf_counter() < deadline:
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    sys.stdout.write(f"{amount / statistics.median(seconds)}\n")


if __name__ == "__main__":
    main()
