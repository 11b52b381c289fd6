"""The driver of a job on a real Ray dies at one of its requests to the store, before or after the store did it.

What tests/faults enumerates without Ray, under the executor of production. There the tasks make requests too, so which
one is the n-th is not the same in every run.
"""

import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.faults.published import read_published
from tests.faults.store import Answer, Kill, Reset, Rule
from tests.faults.trials import TABLES, Job, Stage, Undisturbed, WatchedStore, compare, draw_input, experiment
from tests.jobs import DEADLINE_S, FIRST_SEED, Experiment, communicate
from tests.nodes import Nodes
from tests.tally import Tally
from unet_ray.config_file import dump_config

TRIALS = 20


@dataclass(frozen=True, kw_only=True)
class Laboratory:
    """A cluster whose workers know a store, and for each stage a run nobody disturbed."""

    store: WatchedStore
    experiment: Experiment
    undisturbed: dict[Stage, Undisturbed]


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    path = tmp_path_factory.mktemp("requests") / "experiment.yaml"
    path.write_text(dump_config(experiment()))
    with WatchedStore("", draw_input()) as store, pytest.MonkeyPatch.context() as environment:
        for name, value in store.environment.items():
            environment.setenv(name, value)
        with Nodes(1, 1, head=2) as nodes:
            job = Experiment(path=path, environment=nodes.environment)
            yield Laboratory(store=store, experiment=job, undisturbed=run_undisturbed(store, job))


def run_undisturbed(store: WatchedStore, job: Experiment) -> dict[Stage, Undisturbed]:
    runs: dict[Stage, Undisturbed] = {}
    for stage, table in TABLES.items():
        before = store.snapshot()
        store.clear_log()
        job.finish(stage)
        success, rows = read_published(store.objects, table)
        runs[stage] = Undisturbed(stage=stage, before=before, requests=len(store.log), success=success, rows=rows)
        if stage == "prepare":
            assert Job("checkpoint", store).run() == 0
    return runs


OUTAGE_S = 60


def test_a_minute_without_the_store_is_outlasted(laboratory: Laboratory, tally: Tally) -> None:
    stage: Stage = "predict"
    clean, store = laboratory.undisturbed[stage], laboratory.store
    store.restore(clean.before)
    store.watch(TABLES[stage])
    begun = threading.Event()

    def begin() -> None:
        store.rules = [Rule(act=Answer("ServiceUnavailable"), key="/data/"), Rule(act=Reset())]
        begun.set()

    store.rules = [Rule(act=Kill(begin), operation="put", key="/data/")]
    process = laboratory.experiment.start(stage)
    assert begun.wait(DEADLINE_S)
    time.sleep(OUTAGE_S)
    store.rules = ()
    _, said = communicate(process)
    assert process.returncode == 0, said
    found = compare(store, clean)
    tally.add(trials=1, outages=1, **found)
    assert not any(found.values()), found


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + TRIALS))
def test_a_driver_that_dies_at_a_request_is_followed_by_one_that_finishes(
    seed: int, laboratory: Laboratory, tally: Tally
) -> None:
    rng = random.Random(seed)
    stage: Stage = "prepare" if seed % 4 else "predict"
    clean, store = laboratory.undisturbed[stage], laboratory.store
    store.restore(clean.before)
    store.watch(TABLES[stage])
    started: list[subprocess.Popen[str]] = []
    kill = Kill(lambda: started[0].kill(), after=rng.random() < 0.5)
    store.rules = [Rule(act=kill, nth=rng.randint(1, clean.requests - 4))]
    process = laboratory.experiment.start(stage)
    started.append(process)
    _, said = communicate(process)
    assert process.returncode == -signal.SIGKILL, said
    store.rules = ()
    laboratory.experiment.finish(stage)
    found = compare(store, clean)
    tally.add(trials=1, kills=1, **found)
    assert not any(found.values()), found
