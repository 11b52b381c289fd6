import logging
from queue import Queue
from typing import Any

import pytest

from unet_ray.train.schedule import Schedule
from unet_ray.train.watcher import Watcher

SCHEDULE = Schedule(
    num_train=80,
    num_eval=5,
    batch_size=2,
    batches_per_step=4,
    eval_batch_size=4,
    epochs=3,
    eval_every=1,
    rank=0,
    world_size=2,
)
ROW: dict[str, Any] = {
    "epoch": 2, "train_loss": 0.5, "miou": 0.25, "pixel_accuracy": 0.75, "seconds": 61.0, "skipped_steps": 0,
}  # fmt: skip


def watch(caplog: pytest.LogCaptureFixture, *messages: dict[str, Any]) -> tuple[Watcher, list[str]]:
    """Watch a run that sends these messages; return the watcher and what it logged."""
    queue: Queue[dict[str, Any] | None] = Queue()
    for message in (*messages, None):
        queue.put(message)
    rows: list[Any] = []
    watcher = Watcher(queue, SCHEDULE, "street", rows.append)  # type: ignore[arg-type]
    with caplog.at_level(logging.INFO, "unet_ray.train.watcher"):
        watcher.start()
        watcher.join(10)
    assert rows == [message["epoch_done"] for message in messages if "epoch_done" in message]
    return watcher, caplog.messages


def test_progress_is_logged_with_the_time_left(caplog: pytest.LogCaptureFixture) -> None:
    step = {"epoch": 2, "step": 4, "samples_per_s": 8.0, "data_wait": 0.0251}  # 16 steps of 8 are left
    watcher, lines = watch(caplog, step, {"epoch_done": ROW}, {"epoch_done": {**ROW, "train_loss": None, "miou": None}})
    assert lines == [
        "train: epoch 2/3 step 4/10, 8.0 img/s, 3 % waiting for data, 16 s left",
        "epoch 2/3: loss 0.5000 val mIoU 0.2500 accuracy 0.7500 (1 min 1 s)",
        "epoch 2/3: (1 min 1 s)",
    ]
    assert watcher.position == "after epoch 2"


def test_a_change_of_workers_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    _, lines = watch(caplog, {"workers": 2}, {"leaving": 12}, {"workers": 1}, {"workers": 1}, {"workers": 2})
    assert lines == [
        "a node is about to be taken away: saved a checkpoint after step 12",
        "going on with 1 worker(s) instead of 2",
        "going on with 2 worker(s) instead of 1",
    ]


def test_skipped_steps_and_failed_workers_are_told(caplog: pytest.LogCaptureFixture) -> None:
    step = {"epoch": 3, "step": 7, "samples_per_s": 8.0, "data_wait": 0.0}
    watcher, lines = watch(caplog, {"epoch_done": {**ROW, "skipped_steps": 3}}, step, {"failed": "worker 1: killed"})
    assert lines[0].endswith("(1 min 1 s), 3 steps skipped: no finite loss or gradient")
    assert lines[2] == "a worker failed about step 7 of epoch 3, going on from the last checkpoint: worker 1: killed"
    assert watcher.position == "about step 7 of epoch 3"
