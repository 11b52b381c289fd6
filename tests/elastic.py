"""A training run on two nodes that goes on when one of them is gone."""

from pathlib import Path

from tests.integration.conftest import tiny_config
from unet_ray.config import Config
from unet_ray.history import read_history

IMPATIENT = {"RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "10"}


def make_config(root: Path, epochs: int) -> Config:
    """Return a run of one or two workers that takes its time."""
    return tiny_config(
        root, synthetic__frames="40", model__width="8", train__batch_size="2", train__epochs=str(epochs),
        train__eval_every=str(epochs), scaling__num_workers="[1, 2]", scaling__device="cpu",
    )  # fmt: skip


def check_went_on(config: Config, said: str) -> None:
    """Check that a run lost a worker on its way and no step."""
    assert "going on with 1 worker(s) instead of 2" in said, said
    history = read_history(config.train_uri)
    workers = [row["workers"] for row in history]
    assert workers == sorted(workers, reverse=True)
    assert set(workers) == {1, 2}
    assert [row["step"] for row in history] == [epoch * history[1]["step"] for epoch in range(config.train.epochs + 1)]
