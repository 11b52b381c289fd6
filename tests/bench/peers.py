"""What one would write without unet-ray.

To predict: the plain Ray recipe, a loop over a DataLoader, a script that takes one image at a time; to prepare: a pool
of processes. ``python -m tests.bench.peers BATCH WIDTH IMAGES OUTPUT`` runs the loop, or with a batch of 0 the script,
and prints images per second, the first batch left out.
"""

import multiprocessing
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import ray
import torch
from ray.data import ActorPoolStrategy

from unet_ray.datasets.listing import Row
from unet_ray.model.unet import UNet
from unet_ray.pipeline import Load


class PlainPredictor:
    """The network as most recipes run it: fp32, channels first, softmax left out, argmax on the device."""

    def __init__(self, width: int) -> None:
        self.model = UNet(11, width, 4).eval()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        image = torch.from_numpy(np.stack(list(batch["image"]))).permute(0, 3, 1, 2).float() / 255
        bottom, right = -image.shape[2] % 16, -image.shape[3] % 16
        with torch.no_grad():
            logits = self.model(torch.nn.functional.pad(image, (0, right, 0, bottom)))
        masks = logits[:, :, : image.shape[2], : image.shape[3]].argmax(1).to(torch.uint8).numpy()
        return {"path": batch["path"], "mask": masks}


def plain_recipe(images: Path, output: Path, width: int, batch: int) -> None:
    """``read_images`` -> ``map_batches`` -> ``write_parquet``, as documented."""
    dataset = ray.data.read_images(str(images), include_paths=True)
    dataset.map_batches(
        PlainPredictor,
        batch_size=batch,
        compute=ActorPoolStrategy(size=1),
        num_cpus=1,
        fn_constructor_kwargs={"width": width},
    ).write_parquet(str(output))


class Images(torch.utils.data.Dataset[tuple[str, torch.Tensor]]):
    """The images of a folder as float tensors."""

    def __init__(self, images: Path) -> None:
        self.paths = sorted(images.iterdir())

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[str, torch.Tensor]:
        pixels = cv2.cvtColor(cv2.imread(str(self.paths[index])), cv2.COLOR_BGR2RGB)
        return self.paths[index].stem, torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


def plain_loop(batch: int, width: int, images: Path, output: Path) -> float:
    """Segment a folder of images of one size in fp32, in batches by a worker process, or one by one where it is 0."""
    model = UNet(11, width, 4).eval()
    loader = torch.utils.data.DataLoader(Images(images), batch_size=batch or 1, num_workers=1 if batch else 0)
    output.mkdir()
    started, done = 0.0, -(batch or 1)
    for names, image in loader:
        bottom, right = -image.shape[2] % 16, -image.shape[3] % 16
        with torch.no_grad():
            logits = model(torch.nn.functional.pad(image, (0, right, 0, bottom)))
        masks = logits[:, :, : image.shape[2], : image.shape[3]].argmax(1).to(torch.uint8).numpy()
        for name, mask in zip(names, masks, strict=True):
            cv2.imwrite(str(output / f"{name}.png"), mask)
        done += len(names)
        started = started or time.perf_counter()
    return done / (time.perf_counter() - started)


def plain_pool(rows: Sequence[Row], check: Load, output: Path, processes: int) -> float:
    """Check pairs by ``multiprocessing``: 64 at a time, a Parquet file for each.

    Returns:
        The seconds once the pool is warm.
    """
    output.mkdir()
    chunks = [(rows[first : first + 64], check, output / f"{first}.parquet") for first in range(0, len(rows), 64)]
    with multiprocessing.get_context("forkserver").Pool(processes) as pool:
        pool.map(_check_chunk, [([], check, output / "none.parquet")] * processes, chunksize=1)
        started = time.perf_counter()
        for _ in pool.imap_unordered(_check_chunk, chunks):
            pass
        return time.perf_counter() - started


def _check_chunk(chunk: tuple[Sequence[Row], Load, Path]) -> None:
    rows, check, path = chunk
    if rows:
        pq.write_table(check(list(rows)), path, compression="zstd", write_page_checksum=True)


if __name__ == "__main__":
    sys.stdout.write(f"{plain_loop(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]))}\n")
