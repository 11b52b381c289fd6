"""Counts of the values in masks, in bounded memory: stored numbers, or colours packed by `recovery.pack_colours`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST_VALUES = 4096
"""Values that a tally holds: all of them in masks of ids or exact colours, the most frequent in lossy ones."""

_CELL = 0xF0F0F0  # the upper four bits of each channel


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """Pixels and images of each value: rows of ``(value, pixels, images)``, int64, by ascending value.

    ``dropped`` are pixels of values that were let go to stay within `MOST_VALUES`. While it is 0 every count is exact;
    afterwards a count is a lower bound, except for the values that were kept on purpose.
    """

    rows: NDArray[np.int64]
    dropped: int = 0

    @property
    def pixels(self) -> int:
        """Pixels counted, of values kept or not."""
        return int(self.rows[:, 1].sum()) + self.dropped


EMPTY = Tally(np.zeros((0, 3), np.int64))


def tally_image(values: NDArray[np.integer]) -> Tally:
    """Count the values of one mask of at least one pixel, all of them."""
    flat = values.ravel()
    starts = np.flatnonzero(np.concatenate(([True], flat[1:] != flat[:-1])))
    return _group(flat[starts].astype(np.int64), np.diff(starts, append=flat.size))


def cells_of(image: Tally) -> Tally:
    """Count the colours of one mask by cells of 16 x 16 x 16, at most 4096; a cell is named by its lowest corner."""
    return _group(image.rows[:, 0] & _CELL, image.rows[:, 1])


def add_up(tallies: Iterable[Tally], keep: Sequence[int] = ()) -> Tally:
    """Add up tallies; beyond `MOST_VALUES` the values with the fewest pixels are let go, unless they are to be kept."""
    parts = list(tallies)
    rows = np.concatenate([EMPTY.rows, *(part.rows for part in parts)])
    values, place = np.unique(rows[:, 0], return_inverse=True)
    sums = [np.bincount(place, column, len(values)).astype(np.int64) for column in rows[:, 1:].T]
    total, dropped = np.column_stack([values, *sums]), sum(part.dropped for part in parts)
    if len(total) > MOST_VALUES:
        rank = np.where(np.isin(values, keep), np.iinfo(np.int64).max, total[:, 1])
        kept = np.sort(np.argsort(-rank, kind="stable")[:MOST_VALUES])
        dropped += int(total[:, 1].sum() - total[kept, 1].sum())
        total = total[kept]
    return Tally(total, dropped)


def _group(values: NDArray[np.int64], pixels: NDArray[np.int64]) -> Tally:
    found, place = np.unique(values, return_inverse=True)
    counts = np.bincount(place, pixels, len(found)).astype(np.int64)
    return Tally(np.column_stack([found, counts, np.ones_like(counts)]))
