from typing import Any

import pytest

from unet_ray.config_training import MetricName
from unet_ray.train.outcome import is_exhausted, summarise


def history(*scores: float | None) -> list[dict[str, Any]]:
    return [
        {
            "epoch": epoch,
            "train_loss": 1 / epoch if epoch else None,
            "miou": miou,
            "object_miou": None if miou is None else miou / 2,
            "pixel_accuracy": None if miou is None else miou * 2,
            "skipped_steps": epoch,
            "seconds": 1.25,
        }
        for epoch, miou in enumerate(scores)
    ]


@pytest.mark.parametrize(
    ("scores", "patience", "exhausted"),
    [
        ([0.1, 0.2, 0.2], None, False),
        ([0.3], 1, False),
        ([0.3, 0.2], 1, True),
        ([0.3, 0.3], 1, True),
        ([0.3, 0.4], 1, False),
        ([0.3, 0.2, 0.2], 2, True),
        ([0.3, 0.2, 0.31], 2, False),
        ([0.1, 0.3, 0.2], 2, False),
        ([0.3, 0.2, 0.25, 0.28], 2, True),
        ([0.3, None, None, None], 1, False),
        ([0.3, None, 0.2, None], 1, True),
        ([None, None], 1, False),
        ([], 1, False),
    ],
)
def test_training_stops_after_as_many_validations_without_progress_as_asked(
    scores: list[float | None], patience: int | None, exhausted: bool
) -> None:
    assert is_exhausted(history(*scores), "miou", patience) is exhausted


def test_the_summary_is_of_the_best_validation_the_last_loss_and_all_skipped_steps() -> None:
    assert summarise(history(0.1, None, 0.4, 0.2), "miou") == {
        "epochs": 3,
        "train_loss": 1 / 3,
        "best_epoch": 2,
        "miou": 0.4,
        "object_miou": 0.2,
        "pixel_accuracy": 0.8,
        "skipped_steps": 6,
        "train_seconds": 5.0,
    }


def test_of_equal_validations_the_last_is_the_best_as_with_checkpoints() -> None:
    assert summarise(history(0.1, 0.4, 0.4, 0.3), "miou")["best_epoch"] == 2


def test_a_run_that_was_never_validated_has_no_best() -> None:
    summary = summarise(history(None, None), "miou")
    assert (summary["epochs"], summary["train_loss"]) == (1, 1.0)
    assert {summary[key] for key in ("best_epoch", "miou", "object_miou", "pixel_accuracy")} == {None}


@pytest.mark.parametrize("metric", ["miou", "object_miou", "pixel_accuracy", "train_loss"])
def test_the_best_epoch_and_the_end_are_by_the_metric_of_the_run(metric: MetricName) -> None:
    rows = history(0.5, 0.5, 0.5, 0.5)
    for row, value in zip(rows, (None, 0.3, 0.1, 0.2), strict=True):
        row[metric] = value
    assert summarise(rows, metric)["best_epoch"] == (2 if metric == "train_loss" else 1)
    assert is_exhausted(rows[:3], metric, 1) is (metric != "train_loss")
    assert is_exhausted(rows, metric, 1)
    assert is_exhausted(rows, metric, 2) is (metric != "train_loss")
