"""The driver's view of a training run: log lines from what its workers send."""

import logging
import threading
from queue import Empty
from typing import Any

from ray.util.queue import Queue

from unet_ray.logs import LIVE
from unet_ray.monitoring import (
    DATA_WAIT,
    EPOCH,
    SAMPLES_PER_S,
    SKIPPED_STEPS,
    TRAIN_LOSS,
    TRAIN_WORKERS,
    VAL_ACCURACY,
    VAL_MIOU,
    WORKER_FAILURES,
    Monitor,
)
from unet_ray.progress import format_duration
from unet_ray.train.schedule import Schedule
from unet_ray.train.tracking import Track

logger = logging.getLogger(__name__)


class Watcher(threading.Thread):
    """Logs how far training is and what became of its workers, until None comes through the queue."""

    def __init__(self, messages: Queue, schedule: Schedule, run: str, track: Track) -> None:
        """Make a watcher of a run with this name and schedule, which also hands each epoch's row to ``track``."""
        super().__init__(daemon=True)
        self._messages = messages
        self._schedule = schedule
        self._track = track
        self._send = Monitor("train", run).send
        self._workers = schedule.world_size
        self.position = "before the first step"

    def run(self) -> None:
        """Log the messages as they come."""
        self._send(TRAIN_WORKERS, self._workers)
        while True:
            try:
                message = self._messages.get(timeout=60)
            except Empty:
                continue
            if message is None:
                return
            if "failed" in message:
                self._send(WORKER_FAILURES, 1)
                logger.warning(
                    "a worker failed %s, going on from the last checkpoint: %s", self.position, message["failed"]
                )
            elif "workers" in message:
                self._log_workers(message["workers"])
            elif "leaving" in message:
                logger.warning("a node is about to be taken away: saved a checkpoint after step %d", message["leaving"])
            elif "epoch_done" in message:
                self._log_epoch(message["epoch_done"])
                self._track(message["epoch_done"])
            else:
                self._log_step(**message)

    def _log_workers(self, workers: int) -> None:
        if workers != self._workers:
            logger.info("going on with %d worker(s) instead of %d", workers, self._workers)
        self._workers = workers
        self._send(TRAIN_WORKERS, workers)

    def _log_epoch(self, row: dict[str, Any]) -> None:
        self.position = f"after epoch {row['epoch']}"
        self._send(EPOCH, row["epoch"])
        self._send(TRAIN_LOSS, row["train_loss"])
        self._send(VAL_MIOU, row["miou"])
        self._send(VAL_ACCURACY, row["pixel_accuracy"])
        self._send(SKIPPED_STEPS, row["skipped_steps"])
        loss = "" if row["train_loss"] is None else f" loss {row['train_loss']:.4f}"
        val = "" if row["miou"] is None else f" val mIoU {row['miou']:.4f} accuracy {row['pixel_accuracy']:.4f}"
        skipped = f", {row['skipped_steps']} steps skipped: no finite loss or gradient" if row["skipped_steps"] else ""
        duration = format_duration(row["seconds"])
        logger.info("epoch %d/%d:%s%s (%s)%s", row["epoch"], self._schedule.epochs, loss, val, duration, skipped)

    def _log_step(self, epoch: int, step: int, samples_per_s: float, data_wait: float) -> None:
        self.position = f"about step {step} of epoch {epoch}"
        steps = self._schedule.steps_per_epoch
        self._send(EPOCH, epoch - 1 + step / steps)
        self._send(SAMPLES_PER_S, samples_per_s)
        self._send(DATA_WAIT, data_wait)
        left = (self._schedule.epochs - epoch + 1) * steps - step
        eta = format_duration(left * self._schedule.global_batch / samples_per_s)
        logger.info(
            "train: epoch %d/%d step %d/%d, %.1f img/s, %.0f %% waiting for data, %s left",
            epoch, self._schedule.epochs, step, steps, samples_per_s, 100 * data_wait, eta, extra=LIVE,
        )  # fmt: skip
