"""A run on two nodes of which one dies."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.jobs import Experiment, communicate, wait_for
from tests.nodes import Nodes
from unet_ray.checkpoint import list_checkpoints
from unet_ray.config import Config
from unet_ray.config_file import dump_config
from unet_ray.history import read_history

EPOCHS = 8


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    """Start two nodes of three CPUs."""
    with Nodes(3, head=3) as nodes:
        yield nodes


def test_a_run_goes_on_with_the_workers_that_are_left(
    make_config: Callable[..., Config], nodes: Nodes, tmp_path: Path
) -> None:
    config = make_config(
        synthetic__frames="40", model__width="8", train__batch_size="2", train__epochs=str(EPOCHS),
        train__eval_every=str(EPOCHS), scaling__num_workers="[1, 2]", scaling__device="cpu",
    )  # fmt: skip
    path = tmp_path / "elastic.yaml"
    path.write_text(dump_config(config))
    impatient = {"RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "10"}
    experiment = Experiment(path=path, environment={**nodes.environment, **impatient})
    experiment.finish("prepare")
    job = experiment.start("train")
    assert wait_for(lambda: bool(list_checkpoints(config.train_uri)), job)
    nodes.take_node()
    _, said = communicate(job)
    assert job.returncode == 0, said
    assert "going on with 1 worker(s) instead of 2" in said, said
    history = read_history(config.train_uri)
    workers = [row["workers"] for row in history]
    assert workers == sorted(workers, reverse=True)
    assert set(workers) == {1, 2}
    assert [row["step"] for row in history] == [epoch * history[1]["step"] for epoch in range(EPOCHS + 1)]
