"""Nodes with labels: the network runs on those that were asked for, and nowhere else."""

import re
import subprocess
import time
from collections.abc import Iterator

import psutil
import pytest
import yaml

from tests.integration.conftest import TINY
from tests.jobs import Experiment, communicate, wait_for
from tests.nodes import Nodes

LABELS = {"unet-ray/role": "network", "zone": "b"}
WITH_A_NETWORK = ("ray::RayTrainWorker", "ray::MapWorker(")


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    """Start a head that has more CPUs than the labelled node, so that it is taken where labels are not asked for."""
    with Nodes(head=3) as started:
        yield started


@pytest.fixture(scope="module")
def labelled(nodes: Nodes) -> psutil.Process:
    words = ",".join(f"{key}={value}" for key, value in {**LABELS, "disk": "fast"}.items())
    return nodes.add_node("--num-cpus=2", f"--labels={words}")


@pytest.fixture(scope="module")
def experiment(nodes: Nodes, labelled: psutil.Process, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """Prepare a dataset on these nodes, for a network that is to run on the labelled one."""
    folder = tmp_path_factory.mktemp("labels")
    sections = {"run": {"name": "tiny", "storage": str(folder)}, "scaling": {"node_labels": LABELS}}
    (folder / "tiny.yaml").write_text(yaml.safe_dump({**TINY, **sections}))
    experiment = Experiment(path=folder / "tiny.yaml", environment=nodes.environment)
    experiment.finish("prepare")
    return experiment


def watch(job: "subprocess.Popen[str]", node: psutil.Process) -> dict[str, set[bool]]:
    """Return, once a job has ended, for each kind of process with a network whether it ran on a node."""
    seen: dict[str, set[bool]] = {}

    def look() -> bool:
        for process in psutil.process_iter(["cmdline"]):
            title = (process.info["cmdline"] or [""])[0]
            if title.startswith(WITH_A_NETWORK):
                kind = re.split("[.(]", title)[0]
                seen.setdefault(kind, set()).add(any(parent.pid == node.pid for parent in process.parents()))
        time.sleep(0.2)
        return False

    wait_for(look, job)
    return seen


@pytest.mark.nightly
def test_networks_run_on_nodes_with_these_labels_alone(experiment: Experiment, labelled: psutil.Process) -> None:
    for stage, kind in (("train", "ray::RayTrainWorker"), ("predict", "ray::MapWorker")):
        seen = watch(job := experiment.start(stage), labelled)
        _, said = communicate(job)
        assert job.returncode == 0, said
        assert "on nodes with unet-ray/role: network, zone: b, each with" in said
        assert seen == {kind: {True}}
