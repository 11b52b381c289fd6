import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from tests.unit.tiny_run import Killed, make_config, make_job, run, timeless
from unet_ray.checkpoint import Checkpoint, find_checkpoint
from unet_ray.config_training import OptimSection
from unet_ray.train.loop import Job
from unet_ray.train.schedule import Item

pytestmark = pytest.mark.usefixtures("one_thread")

OPTIM = OptimSection(lr=1e-3, ema_decay=0.9)


def share(model: nn.Module) -> nn.Module:
    """Wrap a network as Ray Train does."""
    return DistributedDataParallel(model, gradient_as_bucket_view=True)


Items = Callable[[Item], bool]


def none(item: Item) -> bool:
    return False


def of_step(step: int, job: Job) -> Items:
    """Return what tells the batches of a step of the first epoch."""
    in_step = job.schedule.batches_per_step
    return lambda item: item.kind == "train" and item.epoch == 1 and item.number // in_step == step


def work(rank: int, world_size: int, job: Job, meeting: Path, killed_at: Items, bad: Items) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world_size)
    try:
        run(job, rank=rank, world_size=world_size, killed_at=killed_at, bad=bad, prepare=share)
    except Killed:
        pass
    finally:
        dist.destroy_process_group()


def run_ranks(job: Job, meeting: Path, killed_at: Items = none, bad: Items = none, *, world_size: int = 2) -> None:
    """Train in processes that meet at a file, until all have ended."""
    context = multiprocessing.get_context("fork")
    workers = [
        context.Process(target=work, args=(rank, world_size, job, meeting, killed_at, bad))
        for rank in range(world_size)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0


def assert_near(found: Checkpoint, wanted: Checkpoint) -> None:
    """Compare what differs only by the order in which numbers were added up."""
    assert found.info.step == wanted.info.step
    found_losses, losses = ([row["train_loss"] for row in one.progress["history"]] for one in (found, wanted))
    assert found_losses[1:] == pytest.approx(losses[1:], rel=1e-4)
    for name, weights in wanted.weights.items():
        if "running" not in name and "tracked" not in name:  # of rank 0's batches alone
            torch.testing.assert_close(found.weights[name], weights, rtol=1e-2, atol=1e-4)


def test_two_workers_learn_what_one_learns_that_accumulates(tmp_path: Path) -> None:
    one = make_job(make_config(tmp_path / "one", OPTIM, accumulate=2))
    two = make_job(make_config(tmp_path / "two", OPTIM, workers=2))
    both = make_job(make_config(tmp_path / "both", OPTIM, workers=2, batch_size=2, accumulate=2))
    run(one)
    run_ranks(two, tmp_path / "meet two")
    run_ranks(both, tmp_path / "meet both")
    found = [find_checkpoint(job.config.train_uri, "last") for job in (one, two, both)]
    assert_near(found[1], found[0])
    alone, together = (checkpoint.progress["history"] for checkpoint in found[:2])
    assert [row["sharing_s"] for row in alone] == [None, None, None]
    assert together[0]["sharing_s"] is None
    assert all(0 <= row["sharing_s"] < 60 for row in together[1:])  # as long as processes take turns on a core
    assert found[2].info.step == found[0].info.step


def test_a_run_that_loses_a_worker_goes_on_with_the_same_steps(tmp_path: Path) -> None:
    def job(name: str) -> Job:
        return make_job(make_config(tmp_path / name, OPTIM, workers=(1, 3), batch_size=2, checkpoint_every_steps=2))

    calm, first, second = job("calm"), job("first"), job("second")
    run(calm)
    for shrinking in (first, second):  # from three workers to two, which have unequal shares, to one
        run_ranks(shrinking, tmp_path / f"{shrinking.config.run.storage} 3", of_step(1, shrinking), world_size=3)
        run_ranks(shrinking, tmp_path / f"{shrinking.config.run.storage} 2", of_step(2, shrinking), world_size=2)
        assert find_checkpoint(shrinking.config.train_uri, "last").info.step == 2
        run(shrinking)
    found, again, wanted = (find_checkpoint(one.config.train_uri, "last") for one in (first, second, calm))
    assert_near(found, wanted)
    assert found.info.files["model.safetensors"] == again.info.files["model.safetensors"]
    assert [row["workers"] for row in found.progress["history"]] == [3, 1, 1]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_workers_that_are_killed_within_an_epoch_go_on_to_the_bit(accumulate: int, tmp_path: Path) -> None:
    def job(name: str) -> Job:
        options: dict[str, Any] = {"batch_size": 2, "accumulate": accumulate, "checkpoint_every_steps": 2}
        return make_job(make_config(tmp_path / name, OPTIM, workers=2, **options))

    calm, broken = job("calm"), job("broken")
    bad = of_step(2, calm)  # the step after a checkpoint is skipped
    run_ranks(calm, tmp_path / "meet calm", bad=bad)
    run_ranks(broken, tmp_path / "meet broken", of_step(2, broken), bad)
    left = find_checkpoint(broken.config.train_uri, "last")
    assert (left.info.step, left.progress["passed"]["steps"]) == (2, 2)
    run_ranks(broken, tmp_path / "meet again", bad=bad)
    found, wanted = (find_checkpoint(one.config.train_uri, "last") for one in (broken, calm))
    assert found.info.files["model.safetensors"] == wanted.info.files["model.safetensors"]
    assert found.info.model_sha256 == wanted.info.model_sha256
    assert found.info.files["optimizer.safetensors"] == wanted.info.files["optimizer.safetensors"]
    assert timeless(found.progress["history"]) == timeless(wanted.progress["history"])
    assert found.progress["history"][1]["skipped_steps"] == 1
