"""A node says that it is about to go, as spot instances do, while a run trains on it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import tiny_config
from tests.jobs import Experiment, communicate, wait_for
from tests.nodes import Nodes
from unet_ray.checkpoint import list_checkpoints
from unet_ray.config_file import dump_config
from unet_ray.history import read_history

EPOCHS = 24
NOTICE = "a node is about to be taken away: saved a checkpoint after step"


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Nodes]:
    """Start two nodes of three CPUs; one that is told to leave has two minutes."""
    monkeypatch.setenv("RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S", "120")
    with Nodes(3, head=3) as nodes:
        yield nodes


def test_a_run_saves_before_a_node_leaves_and_goes_on_without_it(nodes: Nodes, tmp_path: Path) -> None:
    config = tiny_config(
        tmp_path, synthetic__frames="40", model__width="8", train__batch_size="2", train__epochs=str(EPOCHS),
        train__eval_every=str(EPOCHS), scaling__num_workers="[1, 2]", scaling__device="cpu",
    )  # fmt: skip
    path = tmp_path / "elastic.yaml"
    path.write_text(dump_config(config))
    impatient = {"RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "1", "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "10"}
    experiment = Experiment(path=path, environment={**nodes.environment, **impatient})
    experiment.finish("prepare")
    job = experiment.start("train")
    assert wait_for(lambda: bool(list_checkpoints(config.train_uri)), job)
    nodes.drain_node()
    assert job.stderr is not None
    said = ""
    while NOTICE not in said:  # Ray Train's watcher starts when the workers do, and takes its time beside them
        line = job.stderr.readline()
        assert line, said
        said += line
    nodes.take_node()
    _, rest = communicate(job)
    said += rest
    assert job.returncode == 0, said
    assert "going on with 1 worker(s) instead of 2" in said, said
    history = read_history(config.train_uri)
    workers = [row["workers"] for row in history]
    assert workers == sorted(workers, reverse=True)
    assert set(workers) == {1, 2}
    assert [row["step"] for row in history] == [epoch * history[1]["step"] for epoch in range(EPOCHS + 1)]
