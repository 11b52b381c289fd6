"""What one would write without unet-ray: the plain Ray recipe to predict, a pool of processes to prepare."""

import multiprocessing
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
