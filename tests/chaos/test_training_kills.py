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

from tests.chaos.jobs import FIRST_SEED
from tests.integration.conftest import tiny_config
from tests.tally import Tally
from unet_ray import prepare, runtime
from unet_ray.checkpoint import find_checkpoint
from unet_ray.config import Config
from unet_ray.errors import ResourceError
from unet_ray.train import run as train

JOBS, KILLS = 2, 10
TORN = 1
PATIENCE_S = 120


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
                "train__epochs": "14",
                "train__max_failures": "20",
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


def manifests(config: Config) -> set[Path]:
    return set(Path(config.train_uri).glob("checkpoints/*/MANIFEST.json"))


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + JOBS))
def test_ranks_killed_at_random_steps_change_no_bit_of_the_weights(
    make_config: Callable[..., Config], calm: str, seed: int, tally: Tally
) -> None:
    rng = random.Random(seed)
    config = make_config(f"killed-{seed}")
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(train.run, config)
        for _ in range(KILLS):
            before = manifests(config)
            wait_until(lambda before=before: bool(manifests(config) - before), job)  # type: ignore[misc]
            time.sleep(rng.uniform(0, 1.0))
            victim = rng.choice(workers())
            victim.kill()
            victim.wait(10)
        result = job.result(PATIENCE_S)
    mismatched = weights(config) != calm
    tally.add(trials=1, kills=KILLS, mismatched=int(mismatched))
    assert result.epochs == 14
    assert not mismatched


def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before_to_go_on_from(
    make_config: Callable[..., Config], calm: str, tally: Tally
) -> None:
    config = make_config("torn")
    folder = Path(config.train_uri) / "checkpoints"
    torn: list[Path] = []
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(train.run, config)
        while len(torn) < TORN:
            whole = manifests(config)
            wait_until(lambda whole=whole: bool(manifests(config) - whole), job)  # type: ignore[misc]
            known = set(folder.glob("*"))
            wait_until(lambda known=known: bool(set(folder.glob("*")) - known), job)  # type: ignore[misc]
            for victim in workers():
                victim.kill()
            (begun,) = set(folder.glob("*")) - known
            if not (begun / "MANIFEST.json").exists():
                torn.append(begun)
        job.result(PATIENCE_S)
    mismatched = weights(config) != calm
    tally.add(trials=1, kills=TORN, mismatched=int(mismatched))
    assert len({path.name.split("-")[1] for path in torn}) == TORN  # at a step each, so after a checkpoint each
    assert not mismatched


def test_a_run_whose_workers_keep_dying_ends_and_says_where(make_config: Callable[..., Config]) -> None:
    config = make_config("dying", train__max_failures="0")
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(train.run, config)
        wait_until(lambda: bool(manifests(config)), job)
        for victim in workers():
            victim.kill()
            victim.wait(10)
        with pytest.raises(
            ResourceError, match=r"train\.max_failures: workers died 1 times, the last time (after|about)"
        ):
            job.result(PATIENCE_S)
