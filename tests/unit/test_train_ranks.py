import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from tests.unit.tiny_run import Killed, make_config, make_job, run, timeless
from unet_ray.checkpoint import find_checkpoint
from unet_ray.config_training import OptimSection
from unet_ray.train.loop import Job
from unet_ray.train.schedule import Item

pytestmark = pytest.mark.usefixtures("one_thread")

OPTIM = OptimSection(lr=1e-3, ema_decay=0.9)


def share(model: nn.Module) -> nn.Module:
    """Wrap a network as Ray Train does."""
    return DistributedDataParallel(model, gradient_as_bucket_view=True)


def work(rank: int, job: Job, meeting: Path, killed_at: Item | None, bad: frozenset[Item]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    try:
        run(job, rank=rank, world_size=2, killed_at=lambda item: item == killed_at, bad=bad.__contains__, prepare=share)
    except Killed:
        pass
    finally:
        dist.destroy_process_group()


def run_two(job: Job, meeting: Path, killed_at: Item | None = None, bad: frozenset[Item] = frozenset()) -> None:
    """Train in two processes that meet at a file, until both have ended."""
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=work, args=(rank, job, meeting, killed_at, bad)) for rank in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0


def test_two_workers_learn_what_one_learns_that_accumulates(tmp_path: Path) -> None:
    one = make_job(make_config(tmp_path / "one", OPTIM, accumulate=2))
    two = make_job(make_config(tmp_path / "two", OPTIM))
    both = make_job(make_config(tmp_path / "both", OPTIM, batch_size=2, accumulate=2))
    run(one)
    run_two(two, tmp_path / "meet two")
    run_two(both, tmp_path / "meet both")
    found = [find_checkpoint(job.config.train_uri, "last") for job in (one, two, both)]
    assert len({checkpoint.info.step for checkpoint in found}) == 1
    losses = [[row["train_loss"] for row in checkpoint.progress["history"]] for checkpoint in found]
    assert losses[1][1:] == pytest.approx(losses[0][1:], rel=1e-4)
    for name, wanted in found[0].weights.items():
        if "running" not in name and "tracked" not in name:  # of rank 0's batches alone
            torch.testing.assert_close(found[1].weights[name], wanted, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_workers_that_are_killed_within_an_epoch_go_on_to_the_bit(accumulate: int, tmp_path: Path) -> None:
    def job(name: str) -> Job:
        options: dict[str, Any] = {"batch_size": 2, "accumulate": accumulate, "checkpoint_every_steps": 2}
        return make_job(make_config(tmp_path / name, OPTIM, **options))

    bad = frozenset({Item("train", 1, 2 * accumulate)})  # the step after a checkpoint is skipped
    calm, broken = job("calm"), job("broken")
    run_two(calm, tmp_path / "meet calm", bad=bad)
    run_two(broken, tmp_path / "meet broken", bad=bad, killed_at=Item("train", 1, 2 * accumulate))
    left = find_checkpoint(broken.config.train_uri, "last")
    assert (left.info.step, left.progress["passed"]["steps"]) == (2, 2)
    run_two(broken, tmp_path / "meet again", bad=bad)
    found, wanted = (find_checkpoint(one.config.train_uri, "last") for one in (broken, calm))
    assert found.info.files["model.safetensors"] == wanted.info.files["model.safetensors"]
    assert found.info.model_sha256 == wanted.info.model_sha256
    assert found.info.files["optimizer.safetensors"] == wanted.info.files["optimizer.safetensors"]
    assert timeless(found.progress["history"]) == timeless(wanted.progress["history"])
    assert found.progress["history"][1]["skipped_steps"] == 1
