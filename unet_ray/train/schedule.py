"""What every worker does, in which order: a pure function of the seed, so that nothing about it is ever saved.

Epoch 0 only validates, every further epoch trains and, when it is due, validates. A worker's items are numbered
through the whole run; any process can say what item i is. Needs no Ray.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

WINDOW_ROWS = 8192
"""Rows that are shuffled among each other; beyond that whole row groups change places, so reads stay local."""


@dataclass(frozen=True, slots=True)
class Item:
    """One batch of work: rows of the training or the validation index, numbered within an epoch."""

    kind: Literal["train", "eval"]
    epoch: int
    number: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """The work of one worker (``rank`` of ``world_size``) over all epochs.

    ``batch_size`` is of training batches, of which ``batches_per_step`` make a step, ``eval_batch_size`` of validation
    batches. Both are cut over the whole split before they are dealt to the workers: the same batches whatever the
    number of workers, of which there are no more than ``batches_per_step``.
    """

    num_train: int
    num_eval: int
    batch_size: int
    batches_per_step: int
    eval_batch_size: int
    epochs: int
    eval_every: int
    rank: int
    world_size: int

    @property
    def global_batch(self) -> int:
        """Rows that all workers together see in an optimizer step."""
        return self.batch_size * self.batches_per_step

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of an epoch; the last one is filled up with the first rows of the epoch."""
        return -(-self.num_train // self.global_batch)

    def validates(self, epoch: int) -> bool:
        """Tell whether an epoch ends with a validation."""
        return self.num_eval > 0 and (epoch % self.eval_every == 0 or epoch == self.epochs)

    def batches(self, step: int) -> range:
        """Return the batches of an epoch that this worker has in a step, one at least."""
        first = step * self.batches_per_step
        return range(first + self.rank, first + self.batches_per_step, self.world_size)

    def items(self, epoch: int, first_step: int = 0) -> list[Item]:
        """Return what this worker does in an epoch from a step on."""
        steps = range(first_step, self.steps_per_epoch if epoch else 0)
        train = [Item("train", epoch, batch) for step in steps for batch in self.batches(step)]
        if not self.validates(epoch):
            return train
        batches = range(self.rank, -(-self.num_eval // self.eval_batch_size), self.world_size)
        return train + [Item("eval", epoch, batch) for batch in batches]

    def all_items(self, first_epoch: int, first_step: int = 0) -> Iterator[Item]:
        """Yield what this worker does from a step of an epoch on."""
        for epoch in range(first_epoch, self.epochs + 1):
            yield from self.items(epoch, first_step if epoch == first_epoch else 0)

    def train_positions(self, order: NDArray[np.int64], batch: int) -> NDArray[np.int64]:
        """Return the positions in the training index of a batch of the epoch with this order."""
        start = batch * self.batch_size
        return order[np.arange(start, start + self.batch_size) % len(order)]

    def eval_positions(self, batch: int) -> range:
        """Return the positions in the validation index of a batch."""
        start = batch * self.eval_batch_size
        return range(start, min(start + self.eval_batch_size, self.num_eval))


def epoch_order(row_groups: NDArray[np.int64], seed: int, epoch: int) -> NDArray[np.int64]:
    """Return a permutation of the training rows.

    Row groups change places as wholes, then rows change places within windows of `WINDOW_ROWS`: a full shuffle for
    datasets up to that size, local reads for larger ones.

    Args:
        row_groups: ``(N,)`` row group of each row; rows of one group stand together.
        seed: Seed of the run.
        epoch: Epoch, from 1.
    """
    rng = np.random.default_rng([seed, epoch])
    bounds = np.flatnonzero(np.diff(row_groups, prepend=row_groups[0] - 1))
    groups = np.split(np.arange(len(row_groups)), bounds[1:])
    order = np.concatenate([groups[index] for index in rng.permutation(len(groups))])
    for start in range(0, len(order), WINDOW_ROWS):
        rng.shuffle(order[start : start + WINDOW_ROWS])
    return order
