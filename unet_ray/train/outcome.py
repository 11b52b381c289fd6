"""What the epochs of a run come to: when it may stop, which was the best, and its summary. Pure functions."""

from collections.abc import Sequence
from typing import Any

from unet_ray.checkpoint import merit
from unet_ray.config_training import MetricName
from unet_ray.history import Row


def is_exhausted(history: Sequence[Row], metric: MetricName, patience: int | None) -> bool:
    """Tell whether the last ``patience`` epochs that have the metric brought none better than the best before them."""
    merits = [merit(metric, row[metric]) for row in history if row[metric] is not None]
    if patience is None or len(merits) <= patience:
        return False
    return max(merits[-patience:]) <= max(merits[:-patience])


def summarise(history: Sequence[Row], metric: MetricName) -> dict[str, Any]:
    """Return what a run came to; of equally good epochs the last is the best, as in `checkpoint`."""
    scored = [row for row in history if row[metric] is not None]
    best = max(scored, key=lambda row: (merit(metric, row[metric]), row["epoch"]), default=None)
    return {
        "epochs": history[-1]["epoch"],
        "train_loss": history[-1]["train_loss"],
        "best_epoch": best["epoch"] if best else None,
        "miou": best["miou"] if best else None,
        "object_miou": best["object_miou"] if best else None,
        "pixel_accuracy": best["pixel_accuracy"] if best else None,
        "skipped_steps": sum(row["skipped_steps"] for row in history),
        "train_seconds": round(sum(row["seconds"] for row in history), 1),
    }
