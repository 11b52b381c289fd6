"""``unet-ray drift``: whether frames are like those that a model is known from, told without any truth.

Two tables of predictions by one checkpoint, new frames and a reference such as its validation split, are compared by
how the numbers of their frames are distributed: size, brightness, confidence, uncertainty and the share of each class.

Needs no Ray: it reads a few numbers of each row, part by part. Memory goes with the number of groups.

Shapes: N rows, F numbers of a frame, L levels of a number, B bins.
"""

import functools
import operator
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from unet_ray.columns import align
from unet_ray.errors import TableError
from unet_ray.schema import OK
from unet_ray.stability import LARGE, MOST_BINS, index_by_chance, quantile_bins, stability_index
from unet_ray.table.read import Table, open_predictions

_LEVELS = 1000
_MOST_LOG2_PIXELS = 30
_SHOWN = 10
_SUMS = ("channel_sum", "class_pixels", "confidence_sum")
_COLUMNS = ("status", "group", "height", "width", "entropy_sum", *_SUMS)
_SEEN_BY = tuple(f"predict.{name}" for name in ("checkpoint", "flips", "scales", "segment_every", "smooth_frames"))
_NUMBERS = ("size", "brightness", "confidence", "uncertainty")


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
class GroupShift:
    """A group of which a number has a large shift: how many frames it has, and what shifted most."""

    group: str
    frames: int
    shift: Shift


@dataclass(frozen=True, kw_only=True, slots=True)
class Drift:
    """What `run` found, the largest first; ``groups`` are the first few of ``shifted_groups``.

    ``largest`` is the largest index that is no chance, over all frames; 0 where none is.
    """

    table: str
    reference: str
    frames: int
    reference_frames: int
    largest: float
    shifts: tuple[Shift, ...]
    shifted_groups: int
    groups: tuple[GroupShift, ...]


@dataclass(kw_only=True, slots=True)
class _Sample:
    """Frames counted by bin, ``(F, B)``, and the sum of their levels, ``(F,)``."""

    counts_FB: NDArray[np.int64]
    level_sum_F: NDArray[np.int64]

    @property
    def frames(self) -> int:
        return int(self.counts_FB[0].sum())

    def __add__(self, other: "_Sample") -> "_Sample":
        return _Sample(counts_FB=self.counts_FB + other.counts_FB, level_sum_F=self.level_sum_F + other.level_sum_F)

    def mean(self, place: int) -> float:
        """Return the mean of a number: of the middles of the levels."""
        return (int(self.level_sum_F[place]) / self.frames + 0.5) / _LEVELS


class _Reference:
    """The frames that others are compared with, and the bins that hold about as many of them each."""

    def __init__(self, table: Table, names: Sequence[str]) -> None:
        self._names = names
        levels_FL = np.zeros((len(names), _LEVELS), np.int64)
        for levels_FN, _ in _scan(table):
            np.add.at(levels_FL, (np.arange(len(names))[:, None], levels_FN), 1)
        self._bins_FL = np.stack([quantile_bins(levels_L) for levels_L in levels_FL])
        everything = np.repeat(np.arange(_LEVELS)[None], len(names), axis=0)
        self.sample = self._count(everything, levels_FL)

    def samples(self, table: Table) -> dict[str, _Sample]:
        """Return the frames of each group of a table."""
        found: dict[str, _Sample] = {}
        for levels_FN, groups in _scan(table):
            names, group_N = np.unique(groups, return_inverse=True)
            for place, name in enumerate(names.tolist()):
                chosen_FN = levels_FN[:, group_N == place]
                sample = self._count(chosen_FN, np.ones_like(chosen_FN))
                found[name] = found[name] + sample if name in found else sample
        return found

    def shifts(self, sample: _Sample) -> list[Shift]:
        """Return how far each number has shifted."""
        return [self._shift(sample, place) for place in range(len(self._names))]

    def _count(self, levels_FN: NDArray[np.int64], times_FN: NDArray[np.int64]) -> _Sample:
        """Count frames of these levels, each so many times."""
        counts_FB = np.zeros((len(levels_FN), MOST_BINS), np.int64)
        bins_FN = np.take_along_axis(self._bins_FL, levels_FN, axis=1)
        np.add.at(counts_FB, (np.arange(len(levels_FN))[:, None], bins_FN), times_FN)
        return _Sample(counts_FB=counts_FB, level_sum_F=(levels_FN * times_FN).sum(axis=1))

    def _shift(self, sample: _Sample, place: int) -> Shift:
        num_bins = int(self._bins_FL[place].max()) + 1
        name = self._names[place]
        return Shift(
            number=name,
            index=stability_index(sample.counts_FB[place, :num_bins], self.sample.counts_FB[place, :num_bins]),
            by_chance=index_by_chance(num_bins, sample.frames, self.sample.frames),
            mean=None if name == "size" else sample.mean(place),
            reference_mean=None if name == "size" else self.sample.mean(place),
        )


def run(uri: str, reference_uri: str) -> Drift:
    """Compare the frames of a table with those of a reference, and print what shifted to standard error.

    Args:
        uri: A table of predictions.
        reference_uri: Another one, by the same checkpoint, of frames that it is known from.

    Raises:
        TableError: One is no complete table of predictions, or has no segmented frame, or the checkpoint or the
            views differ.
    """
    table, reference_table = (_open(one) for one in (uri, reference_uri))
    for key in _SEEN_BY:
        found, known = (one.plan.settings.get(key) for one in (table, reference_table))
        if found != known:
            raise TableError(
                f"{uri}: {key} is {found}, in {reference_uri} {known}; another model sees other things in the same "
                "frames, so does another average: predict both alike"
            )
    reference = _Reference(reference_table, _names(reference_table))
    samples = reference.samples(table)
    everything = functools.reduce(operator.add, samples.values())
    shifts = sorted(reference.shifts(everything), key=lambda one: -one.index)
    groups = sorted(_shifted(reference, samples), key=lambda one: (-one.shift.index, one.group))
    drift = Drift(
        table=uri,
        reference=reference_uri,
        frames=everything.frames,
        reference_frames=reference.sample.frames,
        largest=max((one.index for one in shifts if one.index > one.by_chance), default=0.0),
        shifts=tuple(shifts),
        shifted_groups=len(groups),
        groups=tuple(groups[:_SHOWN]),
    )
    sys.stderr.write(f"{drift_text(drift)}\n")
    return drift


def drift_text(found: Drift) -> str:
    """Return what drifted as text: every number, then the groups that shifted most. There is no final newline."""
    numbers = align(
        [
            ("", "index", "by chance", "mean", "reference", ""),
            *((one.number, *_cells(one), "shifted" if one.is_large else "") for one in found.shifts),
        ]
    )
    groups = align(
        [
            ("shifted most", "frames", "number", "index", "by chance", "mean", "reference"),
            *((one.group, str(one.frames), one.shift.number, *_cells(one.shift)) for one in found.groups),
        ]
    )
    counts = (
        f"{found.frames} frames against {found.reference_frames}; {found.shifted_groups} group(s) shifted; "
        f"an index above {LARGE} that chance does not explain is a large shift"
    )
    return "\n".join([*numbers, "", *([*groups, ""] if found.groups else []), counts])


def _cells(shift: Shift) -> tuple[str, str, str, str]:
    means = ("-" if mean is None else f"{mean:.3f}" for mean in (shift.mean, shift.reference_mean))
    return (f"{shift.index:.3f}", f"{shift.by_chance:.3f}", *means)  # type: ignore[return-value]


def _names(table: Table) -> tuple[str, ...]:
    return (*_NUMBERS, *(f"share of {name}" for name in table.plan.facts["classes"]))


def _shifted(reference: _Reference, samples: Mapping[str, _Sample]) -> Iterator[GroupShift]:
    """Yield the groups of which a number has a large shift, with the one that shifted most."""
    for group, sample in samples.items():
        large = [one for one in reference.shifts(sample) if one.is_large]
        if large:
            worst = max(large, key=lambda one: one.index)
            yield GroupShift(group=group, frames=sample.frames, shift=worst)


def _scan(table: Table) -> Iterator[tuple[NDArray[np.int64], NDArray[np.str_]]]:
    """Yield the levels, ``(F, N)`` int64, and the groups, ``(N,)``, of the ok rows of each part."""
    for part in table.scan(_COLUMNS):
        rows = part.filter(pc.equal(part["status"], OK))
        if len(rows):
            yield _levels(rows), np.array(rows["group"].to_pylist())


def _levels(rows: pa.Table) -> NDArray[np.int64]:
    pixels_N = rows["height"].to_numpy().astype(np.int64) * rows["width"].to_numpy()
    sums = {name: np.array(rows[name].to_pylist(), np.int64) for name in _SUMS}
    values_FN = [
        np.log2(pixels_N) / _MOST_LOG2_PIXELS,
        sums["channel_sum"].sum(axis=1) / (3 * 255 * pixels_N),
        sums["confidence_sum"].sum(axis=1) / (255 * pixels_N),
        rows["entropy_sum"].to_numpy() / (255 * pixels_N),
        *(sums["class_pixels"] / pixels_N[:, None]).T,
    ]
    return np.minimum((_LEVELS * np.array(values_FN)).astype(np.int64), _LEVELS - 1)


def _open(uri: str) -> Table:
    table = open_predictions(uri, "drift takes two tables of predictions")
    if not table.success.num_ok:
        raise TableError(
            f"{uri}: none of its {table.success.num_rows} frames was segmented; there is nothing to compare"
        )
    return table
