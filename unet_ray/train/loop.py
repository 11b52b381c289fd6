"""The training loop: what one Ray Train worker does from its first batch to its last.

Shapes: B batch, C channels, K classes, H W pixels; M batches of a step, of all workers.
"""

import contextlib
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import ray.train
import ray.train.collective
import ray.train.torch
import torch
from numpy.typing import NDArray
from ray.util.queue import Queue
from torch import Tensor, nn

from unet_ray.checkpoint import (
    Checkpoint,
    ModelCard,
    find_checkpoint,
    open_checkpoint,
    prune_checkpoints,
    resume_checkpoint,
    save_checkpoint,
)
from unet_ray.config import Arithmetic, Config
from unet_ray.errors import DivergedError
from unet_ray.faults import outlast
from unet_ray.history import write_history
from unet_ray.losses.segmentation import SegmentationLoss
from unet_ray.model.encoder_weights import load_encoder_weights
from unet_ray.model.network import SegmentationNetwork
from unet_ray.model.outputs import compared, subsample
from unet_ray.model.segmenter import Segmenter
from unet_ray.train.ahead import started
from unet_ray.train.batch import load_batch, load_border
from unet_ray.train.epoch import Passed, make_row
from unet_ray.train.feed import Source, feed, train_rows
from unet_ray.train.outcome import is_exhausted, summarise
from unet_ray.train.preemption import Notices
from unet_ray.train.ranks import share_statistics, sum_counts, sum_tensor
from unet_ray.train.rates import learning_rate
from unet_ray.train.schedule import Item, Schedule
from unet_ray.train.start import take_weights
from unet_ray.train.stepper import Stepper
from unet_ray.train.validation import Validation

Batches = Iterator[tuple[Item, pa.Table]]

_PROGRESS_EVERY_S = 2.0
_MOST_SKIPPED = 10
_MOST_NAMED = 20


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything a worker needs; travels whole from the driver. ``schedule`` is rank 0's.

    The run pauses after ``until_epoch``.
    """

    config: Config
    card: ModelCard
    source: Source
    schedule: Schedule
    class_weights: tuple[float, ...]
    precision: Arithmetic
    threads: int
    data_cpus: float
    until_epoch: int
    progress: Queue


def train_worker(settings: dict[str, Any]) -> dict[str, Any]:
    """Train from the last checkpoint, or from the start, to the end; runs once in each train worker.

    Returns:
        The summary of the run (`summarise`), the same on every rank.

    Raises:
        DivergedError: Ten steps in a row had no finite loss or gradient.
        ResourceError: The network cannot be compiled here, as ``optim.compile`` asks for.
    """
    job: Job = settings["job"]
    torch.set_num_threads(job.threads)
    context = ray.train.get_context()
    schedule = replace(job.schedule, rank=context.get_world_rank(), world_size=context.get_world_size())

    def batches(first_epoch: int, first_step: int) -> Generator[tuple[Item, pa.Table], None, None]:
        return feed(job.source, schedule, first_epoch, first_step, job.data_cpus)

    def prepare(model: nn.Module) -> nn.Module:
        wrapped: nn.Module = ray.train.torch.prepare_model(
            model, parallel_strategy_kwargs={"gradient_as_bucket_view": True}
        )
        return wrapped

    if schedule.rank == 0:
        job.progress.put({"workers": schedule.world_size})
    checkpoint = _find_last(job.config.train_uri)
    history = train(job, schedule, ray.train.torch.get_device(), checkpoint, batches, prepare, Notices().are_new)
    return summarise(history, job.config.train.metric)


def train(
    job: Job,
    schedule: Schedule,
    device: torch.device,
    checkpoint: Checkpoint | None,
    batches: Callable[[int, int], Generator[tuple[Item, pa.Table], None, None]],
    prepare: Callable[[nn.Module], nn.Module],
    must_save: Callable[[], bool] = lambda: False,
) -> list[dict[str, Any]]:
    """Train one worker's network; needs no Ray by itself.

    Args:
        job: What to train.
        schedule: This worker's work.
        device: Where the network runs.
        checkpoint: Where to go on from; None begins.
        batches: Yields this worker's items with their rows, from a step of an epoch on.
        prepare: Brings a network to the device and, where there are several workers, makes it share gradients.
        must_save: Tells rank 0 after a step whether to save a checkpoint, whatever ``train.checkpoint_every_steps`` is.

    Returns:
        The history: a row per epoch.
    """
    torch.manual_seed(job.config.run.seed)
    model = job.card.build()
    passed = Passed(epoch=0)
    if checkpoint is not None:
        passed = Passed(**checkpoint.progress["passed"])
    with (
        contextlib.closing(batches(passed.epoch, passed.steps)) as items,
        started(items) as ready,
    ):
        if checkpoint is None:
            _begin(model, job)
        network = prepare(model.to(memory_format=torch.channels_last))
        worker = _Worker(job, schedule, device, model, network, must_save)
        if checkpoint is not None:
            worker.resume(checkpoint, passed)
        for epoch in range(passed.epoch, job.until_epoch + 1):
            if worker.run_epoch(passed, islice(ready, len(schedule.items(epoch, passed.steps)))):
                break
            passed = Passed(epoch=epoch + 1)
    return worker.history


def _begin(model: SegmentationNetwork, job: Job) -> None:
    """Give a new network the weights it begins with, if there are any to be had."""
    if job.config.model.encoder_weights is not None:
        outlast(lambda: load_encoder_weights(model, job.config.model))
    if (uri := job.config.train.start_from) is not None:
        take_weights(model, outlast(lambda: open_checkpoint(uri)), job.card.class_map.classes)


class _Worker:
    """One worker's network and optimizer, and the steps it takes with them."""

    def __init__(
        self,
        job: Job,
        schedule: Schedule,
        device: torch.device,
        model: SegmentationNetwork,
        network: nn.Module,
        must_save: Callable[[], bool],
    ) -> None:
        """Make a worker at the start of a run; ``network`` is ``model`` with what shares its gradients."""
        self._job = job
        self._schedule = schedule
        self._device = device
        self._stepper = Stepper(model, network, job.config.optim, job.precision, device)
        self._loss = SegmentationLoss(job.config.loss, torch.tensor(job.class_weights, device=device))
        self._must_save = must_save
        self._unsettled: tuple[Tensor, Tensor] | None = None  # a step's loss, and those of this rank's batches
        self._skipped_in_a_row = 0
        self._reported = 0.0
        self.history: list[dict[str, Any]] = []

    def resume(self, checkpoint: Checkpoint, passed: Passed) -> None:
        """Take over the state of a checkpoint, which holds the epoch under way as ``passed``."""
        self.history = list(checkpoint.progress["history"])
        skipped = sum(row["skipped_steps"] for row in self.history)
        self._stepper.resume(checkpoint, self._step_number(passed.epoch, passed.taken) - skipped)

    def run_epoch(self, passed: Passed, batches: Batches) -> bool:
        """Go through the rest of an epoch: train on the training batches, then validate on the others; keep both.

        Returns:
            Whether the run has ended.
        """
        epoch = passed.epoch
        steps = self._schedule.steps_per_epoch if epoch else 0
        for step in range(passed.steps, steps):
            started = time.monotonic()
            self._step(passed, step, batches)
            passed.train_s += time.monotonic() - started
            self._report(passed, step + 1)
            if self._schedule.rank == 0 and step + 1 < steps:
                self._save_within(passed, self._step_number(epoch, step + 1))
        self._settle(passed)
        started = time.monotonic()
        validation = self._validate(epoch, batches)
        row = self._close(passed, validation.confusion_KK, time.monotonic() - started)
        self.history.append(row)
        metric, patience = self._job.config.train.metric, self._job.config.train.patience
        finished = epoch == self._schedule.epochs or is_exhausted(self.history, metric, patience)
        following = Passed(epoch=epoch + 1)
        self._save(row["step"], epoch, row[metric], following, finished=finished, validation=validation)
        if self._schedule.rank == 0:
            outlast(lambda: write_history(self._job.config.train_uri, self.history))
            self._job.progress.put({"epoch_done": row})
        return finished

    def _step(self, passed: Passed, step: int, batches: Batches) -> None:
        """Take one optimizer step, without waiting for the device to finish it."""
        numbers, in_step = self._schedule.batches(step), self._schedule.batches_per_step
        losses = []
        for number in numbers:
            asked = time.monotonic()
            _, rows = next(batches)
            passed.data_wait_s += time.monotonic() - asked
            image_BCHW, mask_BHW = load_batch(rows, self._job.source.crop, self._device, self._job.source.margin)
            border_BHW = load_border(rows, self._job.source.crop, self._device)
            if number == numbers[0]:
                self._settle(passed)
                self._stepper.begin()
            with self._stepper.sharing(last=number == numbers[-1]):
                torch.manual_seed(self._batch_seed(passed.epoch, number))  # dropout's: nothing random is saved
                loss = self._compare(self._stepper.outputs(image_BCHW), mask_BHW, border_BHW)
                self._stepper.backward(loss, self._schedule.world_size / in_step)  # of which ranks share the mean
            losses.append(loss.detach())
        own_losses = torch.stack(losses)
        self._unsettled = sum_tensor(own_losses.sum() / in_step), own_losses
        self._stepper.step(self._rate(self._step_number(passed.epoch, step)))

    def _compare(self, outputs: Tensor | tuple[Tensor, ...], mask_BHW: Tensor, border_BHW: Tensor | None) -> Tensor:
        """Return the loss of a batch: the weighted sum over the network's outputs."""
        losses = [
            weight * self._loss(logits, target, None if border_BHW is None else subsample(border_BHW, logits))
            for logits, target, weight in compared(outputs, mask_BHW)
        ]
        return torch.stack(losses).sum()

    def _batch_seed(self, epoch: int, number: int) -> int:
        """Return the seed of what is random on the device in a batch: another one for each, whoever has it."""
        before = self._step_number(epoch, 0) * self._schedule.batches_per_step
        return self._job.config.run.seed + before + number

    def _settle(self, passed: Passed) -> None:
        """Wait for the last step, if there is one to wait for, and count it as taken or skipped."""
        if self._unsettled is None:
            return
        (loss, own_losses), self._unsettled = self._unsettled, None
        passed.steps += 1
        if self._stepper.settle():
            passed.taken += 1
            passed.loss_sum += float(loss)
            self._skipped_in_a_row = 0
            return
        self._skipped_in_a_row += 1
        if self._skipped_in_a_row == _MOST_SKIPPED:
            raise DivergedError(
                f"step {self._step_number(passed.epoch, passed.steps)} (epoch {passed.epoch}): no finite loss or "
                f"gradient in {_MOST_SKIPPED} steps in a row; lower optim.lr in a run of another name, or look at "
                f"these images: {self._suspects(passed, own_losses)}"
            )

    def _suspects(self, passed: Passed, own_losses: Tensor) -> str:
        """Name the images of the last step's batches whose own loss is not finite, or of all where none is such."""
        first = (passed.steps - 1) * self._schedule.batches_per_step
        bad_M = np.zeros(self._schedule.batches_per_step, np.int64)
        bad_M[self._schedule.rank :: self._schedule.world_size] = ~own_losses.isfinite().cpu().numpy()
        bad_M = sum_counts(bad_M, self._device)
        names = [
            row["image_id"]
            for batch, bad in enumerate(bad_M)
            if bad or not bad_M.any()
            for row in train_rows(Item("train", passed.epoch, first + batch), self._job.source, self._schedule)
        ]
        rest = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        return ", ".join(names[:_MOST_NAMED]) + rest

    def _save_within(self, passed: Passed, step: int) -> None:
        """Save a checkpoint between two steps if it is time, or a node is about to go; rank 0 does, for all."""
        every, leaving = self._job.config.train.checkpoint_every_steps, self._must_save()
        if leaving or (every is not None and step % every == 0):
            self._settle(passed)
            self._save(step, passed.epoch, None, passed)
        if leaving:
            self._job.progress.put({"leaving": step})

    def _step_number(self, epoch: int, step: int) -> int:
        """Return how many steps of the run come before a step of an epoch; epoch 0 has none."""
        return max(0, epoch - 1) * self._schedule.steps_per_epoch + step

    def _rate(self, step: int) -> float:
        return learning_rate(step, self._schedule.epochs * self._schedule.steps_per_epoch, self._job.config.optim)

    def _validate(self, epoch: int, batches: Batches) -> Validation:
        """Count all ranks' validation batches; nothing in an epoch that does not validate."""
        card = self._job.card
        counted = Validation.empty(card.class_map.num_classes)
        if not self._schedule.validates(epoch):
            return counted
        share_statistics(self._stepper.model)
        segmenter = Segmenter(
            self._stepper.current(),
            card.mean,
            card.std,
            self._device,
            self._job.precision,
            most_pixels=self._job.config.predict.forward_pixels,
            measured=True,
        )
        for _, rows in batches:
            counted.add(segmenter, rows)
        counted.sum_up(self._device)
        return counted

    def _close(self, passed: Passed, confusion_KK: NDArray[np.int64], validation_s: float) -> dict[str, Any]:
        """Return the row of an epoch in the history."""
        step = self._step_number(passed.epoch, passed.steps)
        return make_row(
            passed,
            step=step,
            workers=self._schedule.world_size,
            lr=self._rate(step - 1) if step else None,
            samples=passed.steps * self._schedule.global_batch,
            confusion_KK=confusion_KK,
            background=self._job.card.class_map.background,
            sharing_s=self._stepper.sharing_s(),
            validation_s=validation_s,
        )

    def _save(
        self,
        step: int,
        epoch: int,
        score: float | None,
        passed: Passed,
        *,
        finished: bool = False,
        validation: Validation | None = None,
    ) -> None:
        """Save a checkpoint that goes on with ``passed``; rank 0's, as the weights of all ranks are equal."""
        if self._schedule.rank:
            return
        uri = self._job.config.train_uri
        progress = {
            "history": self.history,
            "passed": asdict(passed),
            "loss_scale": self._stepper.loss_scale(),
            "finished": finished,
        }
        save = partial(
            save_checkpoint,
            uri,
            card=self._job.card,
            model=self._stepper.model,
            average=self._stepper.average,
            optimizer=self._stepper.optimizer,
            step=step,
            epoch=epoch,
            metric=self._job.config.train.metric,
            score=score,
            estimator=None if validation is None else validation.estimator(),
            reference=None if validation is None else validation.reference(self._job.card),
            progress=progress,
        )
        outlast(save)
        outlast(lambda: prune_checkpoints(uri))

    def _report(self, passed: Passed, step: int) -> None:
        if self._schedule.rank or time.monotonic() - self._reported < _PROGRESS_EVERY_S:
            return
        self._reported = time.monotonic()
        rate = step * self._schedule.global_batch / passed.train_s
        share = passed.data_wait_s / passed.train_s
        self._job.progress.put({"epoch": passed.epoch, "step": step, "samples_per_s": rate, "data_wait": share})


def _find_last(train_uri: str) -> Checkpoint | None:
    """Return the checkpoint to go on from: rank 0 looks for it, the others load the same one."""
    first = ray.train.get_context().get_world_rank() == 0
    found = outlast(lambda: resume_checkpoint(train_uri)) if first else None
    uri = ray.train.collective.broadcast_from_rank_zero(found.info.uri if found else None)
    return found if found or uri is None else outlast(lambda: find_checkpoint(train_uri, uri))
