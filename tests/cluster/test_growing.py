"""Jobs on a cluster that has no worker until there is work for one."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster.growing import IDLE_S, LABELS, GrowingCluster
from tests.integration.conftest import TINY
from tests.jobs import Experiment, communicate, table_hash
from tests.tally import Tally
from unet_ray.checkpoint import ModelCard, save_checkpoint
from unet_ray.config_file import load_config
from unet_ray.datasets.prepared import open_dataset
from unet_ray.train.optimizers import make_optimizer

MOST = 3
CPUS = 2
ON_LABELLED = ("--scaling.node_labels", json.dumps(LABELS))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GrowingCluster]:
    with GrowingCluster(tmp_path_factory.mktemp("cluster"), cpus=CPUS, most=MOST) as growing:
        yield growing


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """A dataset that was prepared on this machine, and a checkpoint of a network that has learnt nothing."""
    root = tmp_path_factory.mktemp("growing")
    document = {**TINY, "run": {"name": "tiny", "storage": str(root)}, "scaling": {"predictors": 2}}
    path = root / "tiny.yaml"
    path.write_text(yaml.safe_dump(document))
    found = Experiment(path=path)
    found.finish("prepare")
    config = load_config(str(path))
    prepared = open_dataset(config.dataset_uri)
    card = ModelCard(
        class_map=prepared.classes, model=config.model, mean=prepared.stats["mean"], std=prepared.stats["std"],
        input_size=None, dataset_run_id=prepared.table.plan.run_id,
    )  # fmt: skip
    model = card.build()
    save_checkpoint(
        config.train_uri, card=card, model=model, optimizer=make_optimizer(model, config.optim), step=1, epoch=1,
        score=0.1, progress={},
    )  # fmt: skip
    return found


def on(cluster: GrowingCluster, experiment: Experiment) -> Experiment:
    return Experiment(path=experiment.path, environment=cluster.environment)


@pytest.mark.nightly
def test_a_cluster_grows_for_a_job_and_shrinks_after_it_and_the_masks_are_those_of_one_machine(
    cluster: GrowingCluster, experiment: Experiment, tmp_path: Path, tally: Tally
) -> None:
    here = experiment.finish("predict", "--predict.split", "train", "--predict.output", f"{tmp_path}/here")
    assert cluster.workers() == 0
    flags = ("--predict.split", "train", "--predict.output", f"{tmp_path}/there")
    there = on(cluster, experiment).finish("predict", *flags, "--scaling.cpus", str(MOST * CPUS), *ON_LABELLED)
    assert (cluster.workers(), cluster.labelled()) == (MOST, MOST)
    assert (there["frames"], there["miou"]) == (here["frames"], here["miou"])
    mismatched = table_hash(f"{tmp_path}/there") != table_hash(f"{tmp_path}/here")
    tally.add(trials=1, mismatched=int(mismatched), nodes_started=MOST)
    assert not mismatched
    deadline = time.monotonic() + 10 * IDLE_S
    while cluster.workers() and time.monotonic() < deadline:
        time.sleep(1)
    assert cluster.workers() == 0
    tally.add(trials=0, nodes_ended=MOST)


def refusal(experiment: Experiment, *flags: str) -> str:
    """Return the last line of a job that is refused within half a minute of its start."""
    started = time.monotonic()
    _, complaints = communicate(process := experiment.start("prepare", *flags))
    assert process.returncode == 2
    assert time.monotonic() - started < 60
    return complaints.splitlines()[-1]


def test_more_than_a_cluster_may_grow_to_is_refused(
    cluster: GrowingCluster, experiment: Experiment, tmp_path: Path
) -> None:
    new = ("--run.storage", str(tmp_path))
    assert "scaling: 50 CPUs are more than this cluster may grow to" in refusal(
        on(cluster, experiment), *new, "--scaling.cpus", "50"
    )
    assert "scaling: 1 GPUs are more than this cluster may grow to" in refusal(
        on(cluster, experiment), *new, "--scaling.gpus", "1"
    )
    assert "scaling: 2 CPUs on nodes with zone: nowhere are more than this cluster may grow to" in refusal(
        on(cluster, experiment), *new, "--scaling.cpus", "2", "--scaling.node_labels", "{zone: nowhere}"
    )


def test_a_cluster_without_workers_is_told_how_to_grow(
    cluster: GrowingCluster, experiment: Experiment, tmp_path: Path
) -> None:
    said = refusal(on(cluster, experiment), "--run.storage", str(tmp_path))
    assert "the cluster has no CPU for tasks" in said
    assert "scaling.cpus" in said


def test_a_machine_does_not_grow(experiment: Experiment, tmp_path: Path) -> None:
    said = refusal(experiment, "--run.storage", str(tmp_path), "--scaling.cpus", "5000")
    assert "scaling: 5000 CPUs are asked for, this machine has" in said
