"""A run on two nodes of which one dies."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.elastic import IMPATIENT, check_went_on, make_config
from tests.jobs import Experiment, communicate, wait_for
from tests.nodes import Nodes
from unet_ray.checkpoint import list_checkpoints
from unet_ray.config_file import dump_config


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    """Start two nodes of three CPUs."""
    with Nodes(3, head=3) as nodes:
        yield nodes


@pytest.mark.nightly
def test_a_run_goes_on_with_the_workers_that_are_left(nodes: Nodes, tmp_path: Path) -> None:
    config = make_config(tmp_path, epochs=8)
    path = tmp_path / "elastic.yaml"
    path.write_text(dump_config(config))
    experiment = Experiment(path=path, environment={**nodes.environment, **IMPATIENT})
    experiment.finish("prepare")
    job = experiment.start("train")
    assert wait_for(lambda: bool(list_checkpoints(config.train_uri)), job)
    nodes.take_node()
    _, said = communicate(job)
    assert job.returncode == 0, said
    check_went_on(config, said)
