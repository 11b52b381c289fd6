"""A node says that it is about to go, as spot instances do, while a run trains on it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.elastic import IMPATIENT, check_went_on, make_config
from tests.jobs import Experiment, communicate, wait_for
from tests.nodes import Nodes
from unet_ray.checkpoint import list_checkpoints
from unet_ray.config_file import dump_config

NOTICE = "a node is about to be taken away: saved a checkpoint after step"


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Nodes]:
    """Start two nodes of three CPUs; one that is told to leave has two minutes."""
    monkeypatch.setenv("RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S", "120")
    with Nodes(3, head=3) as nodes:
        yield nodes


def test_a_run_saves_before_a_node_leaves_and_goes_on_without_it(nodes: Nodes, tmp_path: Path) -> None:
    config = make_config(tmp_path, epochs=24)
    path = tmp_path / "elastic.yaml"
    path.write_text(dump_config(config))
    watchful = {"RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "1"}
    experiment = Experiment(path=path, environment={**nodes.environment, **IMPATIENT, **watchful})
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
    check_went_on(config, said)
