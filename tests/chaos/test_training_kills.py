"""Training workers killed again and again: the weights at the end are those of a run that nobody disturbed.

Not part of the normal suite: each kill costs a restart of ten seconds and more.
"""

import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.integration.conftest import tiny_config
from tests.jobs import FIRST_SEED
from tests.tally import Tally
from unet_ray import prepare, runtime
from unet_ray.checkpoint import find_checkpoint
from unet_ray.config import Config
from unet_ray.errors import ResourceError
from unet_ray.train import run as train

KILLS, EPOCHS = 20, 24
PATIENCE_S = 600


@pytest.fixture(scope="module")
def make_config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Config]]:
    """Build configurations of runs of two workers on one prepared dataset, each by the name of its run."""
    root = tmp_path_factory.mktemp("chaos")
    with runtime.connected():
        dataset = tiny_config(root, synthetic__frames="20")
        prepare.run(dataset)

        def make(name: str, **changes: str) -> Config:
            fixed = {
                "data__dataset": dataset.dataset_uri,
                "train__batch_size": "2",
                "train__epochs": str(EPOCHS),
                "train__max_failures": "30",
                "model__width": "16",  # so that writing a checkpoint takes its time
                "model__depth": "3",
                "scaling__num_workers": "2",
                "scaling__precision": "fp32",
                "scaling__device": "cpu",
            }
            return tiny_config(root, run__name=name, **{**fixed, **changes})

        yield make


@pytest.fixture(scope="module")
def calm(make_config: Callable[..., Config]) -> str:
    """Give the weights of the undisturbed run."""
    config = make_config("calm")
    train.run(config)
    return weights(config)


def weights(config: Config) -> str:
    return find_checkpoint(config.train_uri, "last").info.model_sha256


def workers() -> list[psutil.Process]:
    """Return the processes that train, of this test's own Ray."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.cmdline()[0].startswith("ray::RayTrainWorker"):
                found.append(process)
        except (psutil.Error, IndexError):
            continue
    return sorted(found, key=lambda process: process.pid)


def wait_until(ready: Callable[[], bool], job: Future[train.TrainResult]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not ready():
        assert not job.done(), f"the job ended too early: {job.exception()}"
        assert time.monotonic() < deadline
        time.sleep(0.001)


def wait_for_another(config: Config, job: Future[train.TrainResult]) -> None:
    """Wait for the next whole checkpoint."""
    before = manifests(config)
    wait_until(lambda: bool(manifests(config) - before), job)


def kill(victims: list[psutil.Process]) -> None:
    for victim in victims:
        victim.kill()
    for victim in victims:
        victim.wait(10)


def manifests(config: Config) -> set[Path]:
    return set(Path(config.train_uri).glob("checkpoints/*/MANIFEST.json"))


@pytest.mark.timeout(1200)  # 20 restarts of half a minute
def test_workers_killed_at_random_steps_and_while_saving_change_no_bit_of_the_weights(
    make_config: Callable[..., Config], calm: str, tally: Tally
) -> None:
    rng = random.Random(FIRST_SEED)
    config = make_config("killed")
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(train.run, config)
        for _ in range(KILLS):
            wait_for_another(config, job)
            time.sleep(rng.uniform(0, 1.0))
            kill([rng.choice(workers())])
        while not kill_while_saving(config, job):
            pass
        result = job.result(PATIENCE_S)
    mismatched = weights(config) != calm
    tally.add(trials=1, kills=KILLS + 2, mismatched=int(mismatched))
    assert result.epochs == EPOCHS
    assert not mismatched


def kill_while_saving(config: Config, job: Future[train.TrainResult]) -> bool:
    """Kill all workers when they have begun another checkpoint; tell whether it was not there whole."""
    folder = Path(config.train_uri) / "checkpoints"
    wait_for_another(config, job)
    known = set(folder.glob("*"))
    wait_until(lambda: bool(set(folder.glob("*")) - known), job)
    kill(workers())
    (begun,) = set(folder.glob("*")) - known
    return not (begun / "MANIFEST.json").exists()


def test_a_run_whose_workers_die_too_often_ends_and_says_where(
    make_config: Callable[..., Config], tally: Tally
) -> None:
    config = make_config("dying", train__max_failures="0")
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(train.run, config)
        wait_for_another(config, job)
        kill(workers())
        tally.add(trials=1, kills=2)
        with pytest.raises(ResourceError, match=r"train\.max_failures: workers died once, the last time (before|a)"):
            job.result(PATIENCE_S)
