"""Frames that a model is known from, as distributions of their numbers, and how far others have shifted from them.

The numbers of a frame need no truth: its size, brightness, confidence and uncertainty, and the share of each class.
Each has one of `LEVELS` levels, so frames are counted exactly, in any order, and a `Reference` is small enough to be
kept with a checkpoint.

Shapes: N frames, F numbers of a frame, K classes, L levels, B bins.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_ray.stability import LARGE, MOST_BINS, index_by_chance, quantile_bins, stability_index

LEVELS = 1000
SIZE = "size"
_MOST_LOG2_PIXELS = 30


@dataclass(frozen=True, kw_only=True, slots=True)
class Shift:
    """How far one number of the frames has shifted.

    ``index`` is the population stability index, ``by_chance`` what it exceeds once in a thousand samples of as many
    unrelated frames of the reference. The means are of the frames' numbers in 0..1, None for their size.
    """

    number: str
    index: float
    by_chance: float
    mean: float | None
    reference_mean: float | None

    @property
    def is_large(self) -> bool:
        """Tell whether this is a large shift, and no chance."""
        return self.index > max(LARGE, self.by_chance)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """Frames counted by the bins of a reference, ``(F, B)`` int64, and the sum of their levels, ``(F,)``; adds up."""

    counts_FB: NDArray[np.int64]
    level_sum_F: NDArray[np.int64]

    @property
    def frames(self) -> int:
        """How many they are."""
        return int(self.counts_FB[0].sum())

    def __add__(self, other: "Sample") -> "Sample":
        """Return both together."""
        return Sample(counts_FB=self.counts_FB + other.counts_FB, level_sum_F=self.level_sum_F + other.level_sum_F)

    def mean(self, place: int) -> float:
        """Return the mean of a number, in 0..1: of the middles of the levels."""
        return (int(self.level_sum_F[place]) / self.frames + 0.5) / LEVELS


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The frames that others are held against: the names of their numbers, the bins of each, and how many are in them.

    ``edges`` are, for each number, the first level of each bin but the first.
    """

    names: tuple[str, ...]
    edges: tuple[tuple[int, ...], ...]
    sample: Sample

    @staticmethod
    def of(names: Sequence[str], levels_FL: NDArray[np.int64]) -> "Reference":
        """Return the reference of frames counted by the levels of each number, ``(F, L)``; one frame at least."""
        edges = []
        for levels_L in levels_FL:
            bins_L = quantile_bins(levels_L)
            edges.append(tuple(np.searchsorted(bins_L, np.arange(1, bins_L.max() + 1)).tolist()))
        everything = np.repeat(np.arange(LEVELS)[None], len(names), axis=0)
        return Reference(names=tuple(names), edges=tuple(edges), sample=_count(edges, everything, levels_FL))

    def count(self, levels_FN: NDArray[np.int64]) -> Sample:
        """Count frames by the levels of their numbers."""
        return _count(self.edges, levels_FN, np.ones_like(levels_FN))

    def shifts(self, sample: Sample) -> list[Shift]:
        """Return how far each number has shifted."""
        return [self._shift(sample, place) for place in range(len(self.names))]

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        counts = [row[: len(edges) + 1].tolist() for row, edges in zip(self.sample.counts_FB, self.edges, strict=True)]
        return {
            "names": list(self.names),
            "edges": [list(edges) for edges in self.edges],
            "counts": counts,
            "level_sums": self.sample.level_sum_F.tolist(),
        }

    @staticmethod
    def from_json(document: Mapping[str, Any] | None) -> "Reference | None":
        """Return the reference that `to_json` made a document of."""
        if document is None:
            return None
        counts_FB = np.zeros((len(document["names"]), MOST_BINS), np.int64)
        for row, counts in zip(counts_FB, document["counts"], strict=True):
            row[: len(counts)] = counts
        return Reference(
            names=tuple(document["names"]),
            edges=tuple(tuple(edges) for edges in document["edges"]),
            sample=Sample(counts_FB=counts_FB, level_sum_F=np.array(document["level_sums"], np.int64)),
        )

    def _shift(self, sample: Sample, place: int) -> Shift:
        num_bins = len(self.edges[place]) + 1
        name = self.names[place]
        return Shift(
            number=name,
            index=stability_index(sample.counts_FB[place, :num_bins], self.sample.counts_FB[place, :num_bins]),
            by_chance=index_by_chance(num_bins, sample.frames, self.sample.frames),
            mean=None if name == SIZE else sample.mean(place),
            reference_mean=None if name == SIZE else self.sample.mean(place),
        )


def name_numbers(classes: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the numbers of `find_levels`."""
    return (SIZE, "brightness", "confidence", "uncertainty", *(f"share of {name}" for name in classes))


def find_levels(
    *,
    pixels_N: NDArray[np.int64],
    channel_sum_N3: NDArray[np.int64],
    confidence_sum_NK: NDArray[np.int64],
    entropy_sum_N: NDArray[np.int64],
    class_pixels_NK: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Return the levels of the numbers of frames, ``(F, N)`` int64 below `LEVELS`.

    The arguments are columns of `schema.PREDICTION`; a frame of ``pixels_N`` = 2^30 px has the highest size.
    """
    values_FN = [
        np.log2(pixels_N) / _MOST_LOG2_PIXELS,
        channel_sum_N3.sum(axis=1) / (3 * 255 * pixels_N),
        confidence_sum_NK.sum(axis=1) / (255 * pixels_N),
        entropy_sum_N / (255 * pixels_N),
        *(class_pixels_NK / pixels_N[:, None]).T,
    ]
    return np.minimum((LEVELS * np.array(values_FN)).astype(np.int64), LEVELS - 1)


def count_levels(levels_FN: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many frames have each level of each number, ``(F, L)`` int64."""
    levels_FL = np.zeros((len(levels_FN), LEVELS), np.int64)
    np.add.at(levels_FL, (np.arange(len(levels_FN))[:, None], levels_FN), 1)
    return levels_FL


def _count(edges: Sequence[Sequence[int]], levels_FN: NDArray[np.int64], times_FN: NDArray[np.int64]) -> Sample:
    """Count frames of these levels, each so many times."""
    counts_FB = np.zeros((len(levels_FN), MOST_BINS), np.int64)
    for counts_B, edges_B, levels_N, times_N in zip(counts_FB, edges, levels_FN, times_FN, strict=True):
        np.add.at(counts_B, np.searchsorted(np.array(edges_B), levels_N, side="right"), times_N)
    return Sample(counts_FB=counts_FB, level_sum_F=(levels_FN * times_FN).sum(axis=1))
