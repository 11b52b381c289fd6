"""The history of a run: one row per epoch, written as JSON lines and for TensorBoard."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unet_ray import storage

Row = Mapping[str, Any]

_SCALARS = ("train_loss", "lr", "miou", "object_miou", "pixel_accuracy", "samples_per_s")


def write_history(train_uri: str, rows: Sequence[Row]) -> None:
    """Write the whole history anew; runs on rank 0 after each epoch.

    The rows come from the checkpoint, so after a restart both files hold exactly the epochs that count.
    """
    storage.write(f"{train_uri}/history.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    storage.write(f"{train_uri}/tensorboard/events.out.tfevents.0.unet-ray", _tensorboard(rows))


def read_history(train_uri: str) -> list[dict[str, Any]]:
    """Return the rows of a run's history.

    Raises:
        NotFoundError: The run has none.
    """
    text = storage.read_bytes(f"{train_uri}/history.jsonl").decode()
    return [json.loads(line) for line in text.splitlines()]


def _tensorboard(rows: Sequence[Row]) -> bytes:
    from tensorboardX import SummaryWriter

    with tempfile.TemporaryDirectory() as folder:
        with SummaryWriter(folder) as writer:
            for row in rows:
                for name in _SCALARS:
                    if row.get(name) is not None:
                        writer.add_scalar(name, row[name], row["epoch"])
        (file,) = Path(folder).iterdir()
        return file.read_bytes()
