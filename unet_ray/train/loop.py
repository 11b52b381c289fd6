"""The training loop: what one Ray Train worker does from its first batch to its last.

Shapes: B batch, C channels, K classes, H W pixels.
"""

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, Literal, TypeVar

import numpy as np
import pyarrow as pa
import ray.train
import ray.train.collective
import ray.train.torch
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from ray.util.queue import Queue
from torch import Tensor

from unet_ray.checkpoint import (
    Checkpoint,
    ModelCard,
    find_checkpoint,
    prune_checkpoints,
    restore_optimizer,
    resume_checkpoint,
    save_checkpoint,
)
from unet_ray.config import Config
from unet_ray.datasets.frames import view_frames
from unet_ray.errors import DivergedError
from unet_ray.faults import outlast
from unet_ray.history import write_history
from unet_ray.losses.segmentation import SegmentationLoss
from unet_ray.metrics import count_confusion, score
from unet_ray.model.encoder_weights import load_encoder_weights
from unet_ray.model.network import SegmentationNetwork
from unet_ray.model.outputs import compared, subsample
from unet_ray.model.segmenter import Segmenter
from unet_ray.train.feed import Source, feed, train_rows
from unet_ray.train.guard import Guard
from unet_ray.train.schedule import Item, Schedule, learning_rate

T = TypeVar("T")

_PROGRESS_EVERY_S = 2.0
_MOST_SKIPPED = 10
_MOST_NAMED = 20


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything a worker needs; travels whole from the driver. ``schedule`` is rank 0's."""

    config: Config
    card: ModelCard
    source: Source
    schedule: Schedule
    class_weights: tuple[float, ...]
    precision: Literal["bf16", "fp32"]
    threads: int
    data_cpus: float
    progress: Queue


def train_worker(settings: dict[str, Any]) -> dict[str, Any]:
    """Train from the last checkpoint, or from the start, to the end; runs once in each train worker.

    Returns:
        The summary of the run (`summarise`), the same on every rank.

    Raises:
        DivergedError: Ten steps in a row had no finite loss or gradient.
    """
    job: Job = settings["job"]
    torch.set_num_threads(job.threads)
    context = ray.train.get_context()
    schedule = replace(job.schedule, rank=context.get_world_rank(), world_size=context.get_world_size())
    device = ray.train.torch.get_device()
    torch.manual_seed(job.config.run.seed)
    model = job.card.build()
    checkpoint = _find_last(job.config.train_uri)
    history: list[dict[str, Any]] = list(checkpoint.progress["history"]) if checkpoint is not None else []
    first_epoch = history[-1]["epoch"] + 1 if history else 0
    with (
        contextlib.closing(feed(job.source, schedule, first_epoch, job.data_cpus)) as items,
        _started(items) as batches,
    ):
        if checkpoint is not None:
            model.load_state_dict(dict(checkpoint.weights))
        elif job.config.model.encoder_weights is not None:
            outlast(lambda: load_encoder_weights(model, job.config.model))
        network = ray.train.torch.prepare_model(
            model.to(memory_format=torch.channels_last),
            parallel_strategy_kwargs={"gradient_as_bucket_view": True},
        )
        optimizer = make_optimizer(model, job.config)
        if checkpoint is not None:
            restore_optimizer(optimizer, checkpoint.optimizer)
        state = _Worker(job, schedule, device, model, network, optimizer)
        for epoch in range(first_epoch, schedule.epochs + 1):
            row = state.run_epoch(epoch, islice(batches, len(schedule.items(epoch))))
            history.append(row)
            finished = epoch == schedule.epochs or is_exhausted(history, job.config.train.patience)
            if schedule.rank == 0:
                _keep(job, model, optimizer, history, finished)
                job.progress.put({"epoch_done": row})
            if finished:
                break
    return summarise(history)


@contextlib.contextmanager
def _started(items: Iterator[T]) -> Iterator[Iterator[T]]:
    """Give the same items, the first asked for now, in a thread: data tasks take seconds to start, as networks do."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        first = thread.submit(list, islice(items, 1))

        def all_items() -> Iterator[T]:
            yield from first.result()
            yield from items

        yield all_items()


def make_optimizer(model: SegmentationNetwork, config: Config) -> torch.optim.AdamW:
    """Return a fused AdamW; only convolution weights decay."""
    weights = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [
        {"params": weights, "weight_decay": config.optim.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.optim.lr, fused=True)


def is_exhausted(history: list[dict[str, Any]], patience: int | None) -> bool:
    """Tell whether the last ``patience`` validations brought no mIoU above the best one before them."""
    scores = [row["miou"] for row in history if row["miou"] is not None]
    if patience is None or len(scores) <= patience:
        return False
    return bool(max(scores[-patience:]) <= max(scores[:-patience]))


def summarise(history: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what a run came to; of equally good validations the last is the best, as in `checkpoint`."""
    validated = [row for row in history if row["miou"] is not None]
    best = max(validated, key=lambda row: (row["miou"], row["epoch"]), default=None)
    return {
        "epochs": history[-1]["epoch"],
        "train_loss": history[-1]["train_loss"],
        "best_epoch": best["epoch"] if best else None,
        "miou": best["miou"] if best else None,
        "object_miou": best["object_miou"] if best else None,
        "pixel_accuracy": best["pixel_accuracy"] if best else None,
        "skipped_steps": sum(row["skipped_steps"] for row in history),
        "train_seconds": round(sum(row["seconds"] for row in history), 1),
    }


class _Worker:
    """One worker's network and optimizer, and the steps it takes with them."""

    def __init__(
        self,
        job: Job,
        schedule: Schedule,
        device: torch.device,
        model: SegmentationNetwork,
        network: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        self._job = job
        self._schedule = schedule
        self._device = device
        self._model = model
        self._network = network
        self._optimizer = optimizer
        self._optim = job.config.optim
        self._loss = SegmentationLoss(job.config.loss, torch.tensor(job.class_weights, device=device))
        self._guard = Guard(model, optimizer, self._optim.clip_norm)
        self._unsettled: tuple[Item, Tensor] | None = None
        self._losses: list[float] = []
        self._skipped_in_a_row = 0
        self._reported = 0.0

    def run_epoch(self, epoch: int, batches: Iterator[tuple[Item, pa.Table]]) -> dict[str, Any]:
        """Train on the training batches, validate on the others, and return the epoch's row of the history."""
        num_classes = self._job.card.class_map.num_classes
        steps = self._schedule.steps_per_epoch if epoch else 0
        started = trained = time.monotonic()
        self._losses = []
        for item, rows in islice(batches, steps):
            self._step(item, rows)
            trained = time.monotonic()
            self._report(epoch, item.number + 1, trained - started)
        self._settle()
        confusion = np.zeros((num_classes, num_classes), np.int64)
        if self._schedule.validates(epoch):
            segmenter = self._freeze()
            for _, rows in batches:
                confusion += _validate(segmenter, rows, num_classes)
            confusion = self._sum(confusion)
        scores = score(confusion, self._job.card.class_map.background)
        samples = steps * self._schedule.batch_size * self._schedule.world_size
        return {
            "epoch": epoch,
            "step": epoch * self._schedule.steps_per_epoch,
            "train_loss": self._mean(self._losses),
            "lr": self._rate(epoch * self._schedule.steps_per_epoch - 1) if steps else None,
            "miou": scores.miou,
            "object_miou": scores.object_miou,
            "pixel_accuracy": scores.pixel_accuracy,
            "class_iou": [item.iou for item in scores.classes],
            "confusion": confusion.ravel().tolist(),
            "skipped_steps": steps - len(self._losses),
            "samples_per_s": round(samples / (trained - started), 2) if steps else None,
            "seconds": round(time.monotonic() - started, 2),
        }

    def _step(self, item: Item, rows: pa.Table) -> None:
        """Take one optimizer step, without waiting for the device to finish it."""
        image_BCHW, mask_BHW = load_batch(rows, self._job.source.crop, self._device, self._job.source.margin)
        self._settle()
        self._guard.begin()
        self._network.train()
        bf16 = self._job.precision == "bf16"
        autocast = torch.autocast(self._device.type, torch.bfloat16) if bf16 else contextlib.nullcontext()
        number = self._number(item) * self._schedule.world_size + self._schedule.rank
        torch.manual_seed(self._job.config.run.seed + number)  # dropout: nothing random is saved
        with autocast:
            outputs = self._network(image_BCHW)
        border_BHW = load_border(rows, self._job.source.crop, self._device)
        losses = [
            weight * self._loss(logits, target, None if border_BHW is None else subsample(border_BHW, logits))
            for logits, target, weight in compared(outputs, mask_BHW)
        ]
        loss = torch.stack(losses).sum()
        rate = self._rate(self._number(item))
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._guard.step(loss)
        self._unsettled = item, loss.detach()

    def _settle(self) -> None:
        """Wait for the last step, if there is one to wait for, and count it as taken or skipped."""
        if self._unsettled is None:
            return
        (item, loss), self._unsettled = self._unsettled, None
        if self._guard.settle():
            self._losses.append(float(loss))
            self._skipped_in_a_row = 0
            return
        self._skipped_in_a_row += 1
        if self._skipped_in_a_row == _MOST_SKIPPED:
            raise DivergedError(
                f"step {self._number(item) + 1} (epoch {item.epoch}): no finite loss or gradient in {_MOST_SKIPPED} "
                f"steps in a row; lower optim.lr in a run of another name, or look at these images: "
                f"{self._suspects(item, loss)}"
            )

    def _suspects(self, item: Item, loss: Tensor) -> str:
        """Name the images of a step on the ranks whose own loss is not finite, or on all where it is on none."""
        ranks = range(self._schedule.world_size)
        bad = self._sum(np.array([rank == self._schedule.rank and not loss.isfinite() for rank in ranks], np.int64))
        names = [
            row["image_id"]
            for rank in ranks
            if bad[rank] or not bad.any()
            for row in train_rows(item, self._job.source, replace(self._schedule, rank=rank))
        ]
        rest = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        return ", ".join(names[:_MOST_NAMED]) + rest

    def _number(self, item: Item) -> int:
        return (item.epoch - 1) * self._schedule.steps_per_epoch + item.number

    def _rate(self, step: int) -> float:
        return learning_rate(
            step,
            self._schedule.epochs * self._schedule.steps_per_epoch,
            lr=self._optim.lr,
            warmup_fraction=self._optim.warmup_fraction,
            final_lr_fraction=self._optim.final_lr_fraction,
        )

    def _freeze(self) -> Segmenter:
        """Return the network for validation; every rank takes rank 0's batch-norm statistics."""
        if self._schedule.world_size > 1:
            for buffer in self._model.buffers():
                dist.broadcast(buffer, 0)
        card = self._job.card
        return Segmenter(self._model, card.mean, card.std, self._device, self._job.precision)

    def _sum(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Add counts up over all ranks."""
        if self._schedule.world_size == 1:
            return counts
        total = torch.from_numpy(counts).to(self._device)
        dist.all_reduce(total)
        return np.asarray(total.cpu().numpy())

    def _mean(self, losses: list[float]) -> float | None:
        """Return the mean over all ranks, whose losses are equally many; None of none."""
        total = torch.tensor(sum(losses), dtype=torch.float64, device=self._device)
        if self._schedule.world_size > 1:
            dist.all_reduce(total)
        return float(total) / len(losses) / self._schedule.world_size if losses else None

    def _report(self, epoch: int, step: int, seconds: float) -> None:
        if self._schedule.rank or time.monotonic() - self._reported < _PROGRESS_EVERY_S:
            return
        self._reported = time.monotonic()
        rate = step * self._schedule.batch_size * self._schedule.world_size / seconds
        self._job.progress.put({"epoch": epoch, "step": step, "samples_per_s": rate})


def load_batch(rows: pa.Table, crop: tuple[int, int], device: torch.device, margin: int = 0) -> tuple[Tensor, Tensor]:
    """Bring crops (`feed.CROPS`) to the device, apply colour and normalisation there.

    Returns:
        ``(B, 3, H + 2 * margin, W + 2 * margin)`` float32 in channels-last memory, and ``(B, H, W)`` int64 class ids.
    """
    height, width = crop
    pixels = np.stack([np.frombuffer(cell.as_buffer(), np.uint8) for cell in rows["image"]])
    ids = np.stack([np.frombuffer(cell.as_buffer(), np.uint8) for cell in rows["mask"]])
    colour = np.stack([np.frombuffer(cell.as_buffer(), np.float32) for cell in rows["colour"]])
    rgb_BNC = torch.from_numpy(pixels.reshape(len(rows), -1, 3)).to(device, non_blocking=True).float()
    colour_B34 = torch.from_numpy(colour.reshape(-1, 3, 4)).to(device, non_blocking=True)
    image_BNC = torch.baddbmm(colour_B34[:, None, :, 3], rgb_BNC, colour_B34[:, :, :3].mT)
    mask_BHW = torch.from_numpy(ids.reshape(len(rows), height, width)).to(device, non_blocking=True).long()
    image_BHWC = image_BNC.view(len(rows), height + 2 * margin, width + 2 * margin, 3)
    return image_BHWC.permute(0, 3, 1, 2), mask_BHW


def load_border(rows: pa.Table, crop: tuple[int, int], device: torch.device) -> Tensor | None:
    """Bring the border weights of crops (`feed.CROPS`) to the device: ``(B, H, W)`` float32, None if there are none."""
    if rows["border"].null_count:
        return None
    weights = np.stack([np.frombuffer(cell.as_buffer(), np.float16) for cell in rows["border"]])
    return torch.from_numpy(weights.reshape(len(rows), *crop)).to(device, non_blocking=True).float()


def _validate(segmenter: Segmenter, rows: pa.Table, num_classes: int) -> NDArray[np.int64]:
    """Count the confusion of a batch of validation frames (`frames.FRAMES`)."""
    frames = [frame for frame in view_frames(rows) if frame is not None]
    confusion = np.zeros((num_classes, num_classes), np.int64)
    for (_, truth), mask in zip(frames, segmenter.segment([image for image, _ in frames]), strict=True):
        assert truth is not None
        confusion += count_confusion(truth, mask, num_classes)
    return confusion


def _find_last(train_uri: str) -> Checkpoint | None:
    """Return the checkpoint to go on from: rank 0 looks for it, the others load the same one."""
    first = ray.train.get_context().get_world_rank() == 0
    found = outlast(lambda: resume_checkpoint(train_uri)) if first else None
    uri = ray.train.collective.broadcast_from_rank_zero(found.info.uri if found else None)
    return found if found or uri is None else outlast(lambda: find_checkpoint(train_uri, uri))


def _keep(
    job: Job,
    model: SegmentationNetwork,
    optimizer: torch.optim.Optimizer,
    history: list[dict[str, Any]],
    finished: bool,
) -> None:
    """Save what the last epoch came to; runs on rank 0."""
    uri, row = job.config.train_uri, history[-1]
    progress = {"history": history, "finished": finished}
    save = partial(save_checkpoint, uri, card=job.card, model=model, optimizer=optimizer, progress=progress)
    outlast(lambda: save(step=row["step"], epoch=row["epoch"], miou=row["miou"]))
    outlast(lambda: write_history(uri, history))
    outlast(lambda: prune_checkpoints(uri))
