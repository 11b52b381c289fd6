"""An epoch: what its steps came to so far, and its row of the history."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_ray.metrics import score


@dataclass(kw_only=True)
class Passed:
    """What the training steps of an epoch came to so far; stands in a checkpoint that is saved between two of them.

    ``loss_sum`` is of the steps taken, each the mean of all its batches. Times are of this rank: all of the steps, and
    what of it was spent waiting for data.
    """

    epoch: int
    steps: int = 0
    taken: int = 0
    loss_sum: float = 0.0
    train_s: float = 0.0
    data_wait_s: float = 0.0


def make_row(
    passed: Passed,
    *,
    step: int,
    workers: int,
    lr: float | None,
    samples: int,
    confusion_KK: NDArray[np.int64],
    background: int | None,
    sharing_s: float | None,
    validation_s: float,
) -> dict[str, Any]:
    """Return the row of an epoch in the history; times and memory are of this rank's process.

    Args:
        passed: The steps of the epoch.
        step: Steps of the run so far.
        workers: Workers that ended it.
        lr: Learning rate of the last step.
        samples: Rows that all ranks together trained on.
        confusion_KK: Counts of the validation, zeros without one.
        background: Class id that ``object_miou`` leaves out.
        sharing_s: Mean seconds of a step that were spent waiting for gradients of other ranks, if there are any.
        validation_s: Seconds of the validation.
    """
    scores = score(confusion_KK, background)
    return {
        "epoch": passed.epoch,
        "step": step,
        "train_loss": passed.loss_sum / passed.taken if passed.taken else None,
        "lr": lr,
        "miou": scores.miou,
        "object_miou": scores.object_miou,
        "pixel_accuracy": scores.pixel_accuracy,
        "class_iou": [item.iou for item in scores.classes],
        "confusion": confusion_KK.ravel().tolist(),
        "skipped_steps": passed.steps - passed.taken,
        "workers": workers,
        "samples_per_s": round(samples / passed.train_s, 2) if passed.steps else None,
        "data_wait_s": round(passed.data_wait_s, 2),
        "step_s": round(passed.train_s - passed.data_wait_s, 2),
        "sharing_s": None if sharing_s is None else round(sharing_s * passed.steps, 2),
        "validation_s": round(validation_s, 2),
        "seconds": round(passed.train_s + validation_s, 2),
        "peak_memory_mib": _peak_memory_mib(),
    }


def _peak_memory_mib() -> float | None:
    """Return the most memory that was ever resident in this process; None where the system does not say."""
    status = Path("/proc/self/status")  # getrusage would start with the peak of the process that forked this one
    found = re.search(r"VmHWM:\s+(\d+)", status.read_text()) if status.exists() else None
    return round(int(found[1]) / 1024, 1) if found else None
