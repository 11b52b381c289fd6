"""What one would write without unet-ray: the plain Ray recipe for prediction, and a plain loop for preparation."""

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import torch
from ray.data import ActorPoolStrategy

from unet_ray.model.unet import UNet


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


def plain_loop(images: Path, masks: Path, output: Path) -> int:
    """Read, decode, check and store every pair, one after the other, in one process."""
    rows = []
    for path in sorted(images.iterdir()):
        data, truth = path.read_bytes(), (masks / f"{path.stem}.png").read_bytes()
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
        mask = cv2.imdecode(np.frombuffer(truth, np.uint8), cv2.IMREAD_UNCHANGED)
        assert image.shape[:2] == mask.shape
        pixels = image.reshape(-1, 3).astype(np.int64)
        rows.append(
            {
                "image": data,
                "mask": cv2.imencode(".png", mask)[1].tobytes(),
                "class_pixels": np.bincount(mask.ravel(), minlength=12).tolist(),
                "sum": pixels.sum(0).tolist(),
                "squares": (pixels**2).sum(0).tolist(),
            }
        )
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer, compression="zstd")
    output.write_bytes(buffer.getvalue())
    return len(rows)
