"""Workers, actors, nodes and drivers are killed at random under running jobs; the tables are those of calm runs."""

import random
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest
import yaml

from tests.chaos.jobs import FIRST_SEED, Experiment, Nodes, table_hash, wait_for
from tests.integration.conftest import TINY
from tests.tally import Tally
from unet_ray.table.read import open_table
from unet_ray.table.verify import verify

JOBS = 20
KILLS_PER_JOB = 3
FRAMES = 240
VICTIMS = ("task", "actor", "node", "driver")


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with Nodes() as running:
        yield running


@pytest.fixture(scope="module")
def experiment(nodes: Nodes, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    folder = tmp_path_factory.mktemp("chaos")
    document = {**TINY, "run": {"storage": str(folder), "name": "run"}}
    document["synthetic"] = {"sequences": 4, "frames": FRAMES // 4, "height": 48, "width": 64}
    document["train"] = {"epochs": 1, "batch_size": 8}
    document["data"] = {**TINY["data"], "val_fraction": 0}
    document["predict"] = {"split": "train", "batch_size": 2, "shard_rows": 8}
    document["scaling"] = {"predictors": 2}
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(document))
    found = Experiment(path=path, environment=nodes.environment)
    for stage in ("prepare", "train", "predict"):
        found.finish(stage)
    return found


@pytest.fixture(scope="module")
def calm(experiment: Experiment) -> str:
    return table_hash(f"{experiment.path.parent}/run/predictions")


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + JOBS))
def test_kills_at_random_leave_the_table_of_a_calm_run(
    seed: int, experiment: Experiment, nodes: Nodes, calm: str, tally: Tally
) -> None:
    rng = random.Random(seed)
    output = experiment.path.parent / f"disturbed-{seed}"
    flags = (f"--predict.output={output}",)
    process, kills = experiment.start("predict", *flags), 0
    victims = [VICTIMS[(seed + number) % len(VICTIMS)] for number in range(KILLS_PER_JOB)]
    for number, victim in enumerate(victims):
        sealed = rng.randrange(FRAMES // 8 * (number + 1) // (KILLS_PER_JOB + 1))
        while not wait_for(lambda: len(list(output.glob("_seals/*"))) >= sealed, process):  # noqa: B023
            assert process.returncode == -signal.SIGKILL, process.stderr and process.stderr.read()
            process = experiment.start("predict", *flags)
        time.sleep(rng.uniform(0.0, 0.3))
        kills += disturb(victim, process, nodes, rng)
    process.wait()
    if process.returncode != 0:
        assert process.returncode == -signal.SIGKILL, process.stderr and process.stderr.read()
        experiment.finish("predict", *flags)
    table, found = open_table(str(output)), verify(str(output))
    mismatched = table_hash(str(output)) != calm
    tally.add(trials=1, kills=kills, lost=FRAMES - found.num_rows, mismatched=int(mismatched))
    assert kills
    assert found.problems == ()
    assert table.success.num_rows == FRAMES
    assert not mismatched


def disturb(victim: str, process: "subprocess.Popen[str]", nodes: Nodes, rng: random.Random) -> int:
    """Kill one of a kind; return how many were killed."""
    if victim == "driver":
        process.kill()
        process.wait()
        return 1
    if victim == "node":
        nodes.kill_node(rng)
        return 1
    return int(nodes.kill_worker(rng, "ray::MapWorker(" if victim == "actor" else "ray::ReadRange"))
