"""Workers, actors, nodes and drivers are killed at random under running jobs; the tables are those of calm runs."""

import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
import yaml

from tests.faults.inline import write_checkpoint
from tests.integration.conftest import TINY
from tests.jobs import FIRST_SEED, Experiment, table_hash, wait_for
from tests.nodes import Nodes
from tests.tally import Tally
from unet_ray.config_file import load_config
from unet_ray.table.read import open_table
from unet_ray.table.verify import verify

JOBS = 6
KILLS_PER_JOB = 2
FRAMES = 640
PREDICTED_FRACTION = 0.4
SHARD_ROWS = {"prepare": 20, "predict": 8}
VICTIMS = {"prepare": ("task", "node", "driver"), "predict": ("task", "actor", "node", "driver")}
Stage = Literal["prepare", "predict"]


@dataclass(frozen=True, kw_only=True)
class Calm:
    """What a job that nobody disturbed made: its rows, and their hash."""

    num_rows: int
    rows_hash: str


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with Nodes(1, 1, head=2) as running:
        yield running


@pytest.fixture(scope="module")
def experiment(nodes: Nodes, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    folder = tmp_path_factory.mktemp("chaos")
    document = {**TINY, "run": {"storage": str(folder), "name": "run"}}
    document["synthetic"] = {"sequences": 20, "frames": FRAMES // 20, "height": 48, "width": 64}
    document["model"] = {"width": 32, "depth": 3}  # so that prediction takes seconds, in which it can be disturbed
    document["data"] = {
        **TINY["data"], "split": "hash", "val_fraction": 1 - PREDICTED_FRACTION, "shard_rows": SHARD_ROWS["prepare"]
    }  # fmt: skip
    document["predict"] = {"split": "train", "batch_size": 2, "shard_rows": SHARD_ROWS["predict"]}
    document["scaling"] = {"predictors": 2}
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(document))
    found = Experiment(path=path, environment=nodes.environment)
    found.finish("prepare")
    write_checkpoint(load_config(str(path)))
    found.finish("predict")
    return found


@pytest.fixture(scope="module")
def calm(experiment: Experiment) -> dict[Stage, Calm]:
    run = experiment.path.parent / "run"
    outputs: dict[Stage, str] = {"prepare": f"{run}/dataset", "predict": f"{run}/predictions"}
    return {
        stage: Calm(num_rows=open_table(uri).success.num_rows, rows_hash=table_hash(uri))
        for stage, uri in outputs.items()
    }


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + JOBS))
def test_kills_at_random_leave_the_table_of_a_calm_run(
    seed: int, experiment: Experiment, nodes: Nodes, calm: dict[Stage, Calm], tally: Tally
) -> None:
    rng = random.Random(seed)
    stage: Stage = "prepare" if seed % 4 else "predict"
    output = experiment.path.parent / f"disturbed-{seed}"
    flags = (f"--data.dataset={output}",) if stage == "prepare" else (f"--predict.output={output}",)
    wanted, shards = calm[stage], -(-calm[stage].num_rows // SHARD_ROWS[stage])
    process, kills = experiment.start(stage, *flags), 0
    for number in range(KILLS_PER_JOB):
        sealed = rng.randrange(shards * (number + 1) // (KILLS_PER_JOB + 1))
        process = reach(sealed, output, process, lambda: experiment.start(stage, *flags))
        if process.returncode == 0:
            break  # it was done before we struck
        time.sleep(rng.uniform(0.0, 0.3))
        victim = VICTIMS[stage][(seed // 4 + number) % len(VICTIMS[stage])]
        kills += disturb(victim, process, nodes, rng)
    process.wait()
    if process.returncode != 0:
        assert process.returncode == -signal.SIGKILL, process.stderr and process.stderr.read()
        experiment.finish(stage, *flags)
    table, found = open_table(str(output)), verify(str(output))
    mismatched = table_hash(str(output)) != wanted.rows_hash
    tally.add(trials=1, kills=kills, lost=wanted.num_rows - found.num_rows, mismatched=int(mismatched))
    assert kills
    assert found.problems == ()
    assert table.success.num_rows == wanted.num_rows
    assert not mismatched


def reach(
    sealed: int, output: Path, process: "subprocess.Popen[str]", restart: Callable[[], "subprocess.Popen[str]"]
) -> "subprocess.Popen[str]":
    """Wait until a job has sealed some shards, or is done; start it again where its driver was killed."""
    while not wait_for(lambda: len(list(output.glob("_seals/*"))) >= sealed, process) and process.returncode != 0:
        assert process.returncode == -signal.SIGKILL, process.stderr and process.stderr.read()
        process = restart()
    return process


def disturb(victim: str, process: "subprocess.Popen[str]", nodes: Nodes, rng: random.Random) -> int:
    """Kill one of a kind, as soon as there is one; return how many were killed, 0 if the job ended before."""
    if victim == "driver":
        process.kill()
        process.wait()
        return 1
    if victim == "node":
        nodes.kill_node(rng)
        return 1
    names = ("ray::MapWorker(",) if victim == "actor" else ("ray::ReadRange", "ray::MapBatches(")
    return int(wait_for(lambda: nodes.kill_worker(rng, names), process))
