"""``unet-ray drift``: whether frames are like those that a model is known from, told without any truth.

A table of predictions is held against the frames that its checkpoint was validated on, or against those of another
table by the same checkpoint: by how the numbers of their frames are distributed (`reference`).

Needs no Ray: it reads a few numbers of each row, part by part. Memory goes with the number of groups.

Shapes: N rows, F numbers of a frame, L levels of a number.
"""

import functools
import operator
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from unet_ray.columns import align
from unet_ray.errors import TableError
from unet_ray.reference import Reference, Sample, Shift, count_levels, find_levels, name_numbers
from unet_ray.schema import OK
from unet_ray.stability import LARGE
from unet_ray.table.read import Table, open_predictions

_SHOWN = 10
_SUMS = ("channel_sum", "class_pixels", "confidence_sum")
_COLUMNS = ("status", "group", "height", "width", "entropy_sum", *_SUMS)
_PLAIN: Mapping[str, Any] = {
    "predict.flips": "none", "predict.scales": [1.0], "predict.segment_every": 1, "predict.smooth_frames": 0,
}  # fmt: skip
_SEEN_BY = ("predict.checkpoint", *_PLAIN)


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupShift:
    """A group of which a number has a large shift: how many frames it has, and what shifted most."""

    group: str
    frames: int
    shift: Shift


@dataclass(frozen=True, kw_only=True, slots=True)
class Drift:
    """What `run` found, the largest first; ``groups`` are the first few of ``shifted_groups``.

    ``reference`` is a table, or None for the frames of the validation. ``largest`` is the largest index that is no
    chance, over all frames; 0 where none is.
    """

    table: str
    reference: str | None
    frames: int
    reference_frames: int
    largest: float
    shifts: tuple[Shift, ...]
    shifted_groups: int
    groups: tuple[GroupShift, ...]


def run(uri: str, reference_uri: str | None = None) -> Drift:
    """Hold the frames of a table against a reference, and print what shifted to standard error.

    Args:
        uri: A table of predictions.
        reference_uri: Another one, by the same checkpoint, of frames that it is known from; None takes those that the
            checkpoint was validated on.

    Raises:
        TableError: One is no complete table of predictions, or has no segmented frame; the checkpoint or the views
            differ; or, without another table, the checkpoint does not know what it was validated on.
    """
    table = _open(uri)
    drift = find_drift(table, _known(table) if reference_uri is None else _other(table, reference_uri), reference_uri)
    sys.stderr.write(f"{drift_text(drift)}\n")
    return drift


def drift_from_validation(table: Table) -> Drift | None:
    """Return how far the frames of a table have shifted from the validation, None where `run` would refuse to."""
    try:
        return find_drift(table, _known(table)) if table.success.num_ok else None
    except TableError:
        return None


def find_drift(table: Table, reference: Reference, reference_uri: str | None = None) -> Drift:
    """Return how far the frames of a table, one at least, have shifted from a reference (of a table)."""
    samples = _samples(table, reference)
    everything = functools.reduce(operator.add, samples.values())
    shifts = sorted(reference.shifts(everything), key=lambda one: -one.index)
    groups = sorted(_shifted(reference, samples), key=lambda one: (-one.shift.index, one.group))
    return Drift(
        table=table.uri,
        reference=reference_uri,
        frames=everything.frames,
        reference_frames=reference.sample.frames,
        largest=max((one.index for one in shifts if one.index > one.by_chance), default=0.0),
        shifts=tuple(shifts),
        shifted_groups=len(groups),
        groups=tuple(groups[:_SHOWN]),
    )


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


def _known(table: Table) -> Reference:
    """Return the frames that the checkpoint was validated on, as it segmented them: plainly."""
    reference = Reference.from_json(table.plan.facts.get("reference"))
    if reference is None:
        raise TableError(
            f"{table.uri}: its checkpoint does not know the frames it was validated on; name another table of "
            "predictions by it as the reference"
        )
    for key, known in _PLAIN.items():
        if (found := table.plan.settings.get(key, known)) != known:
            raise TableError(
                f"{table.uri}: {key} is {found}, the validation had {known}; name a table that was predicted alike as "
                "the reference"
            )
    return reference


def _other(table: Table, uri: str) -> Reference:
    """Return the frames of another table by the same checkpoint."""
    other = _open(uri)
    for key in _SEEN_BY:
        found, known = (one.plan.settings.get(key) for one in (table, other))
        if found != known:
            raise TableError(
                f"{table.uri}: {key} is {found}, in {uri} {known}; another model sees other things in the same "
                "frames, so does another average: predict both alike"
            )
    counts_FL = functools.reduce(operator.add, (count_levels(levels_FN) for levels_FN, _ in _scan(other)))
    return Reference.of(name_numbers(other.plan.facts["classes"]), counts_FL)


def _samples(table: Table, reference: Reference) -> dict[str, Sample]:
    """Return the frames of each group of a table."""
    names = name_numbers(table.plan.facts["classes"])
    places = [names.index(name) for name in reference.names]
    found: dict[str, Sample] = {}
    for levels_FN, groups in _scan(table):
        members, group_N = np.unique(groups, return_inverse=True)
        for place, name in enumerate(members.tolist()):
            sample = reference.count(levels_FN[places][:, group_N == place])
            found[name] = found[name] + sample if name in found else sample
    return found


def _shifted(reference: Reference, samples: Mapping[str, Sample]) -> Iterator[GroupShift]:
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
    sums = {name: np.array(rows[name].to_pylist(), np.int64) for name in _SUMS}
    return find_levels(
        pixels_N=rows["height"].to_numpy().astype(np.int64) * rows["width"].to_numpy(),
        channel_sum_N3=sums["channel_sum"],
        confidence_sum_NK=sums["confidence_sum"],
        entropy_sum_N=rows["entropy_sum"].to_numpy(),
        class_pixels_NK=sums["class_pixels"],
    )


def _open(uri: str) -> Table:
    table = open_predictions(uri, "drift takes tables of predictions")
    if not table.success.num_ok:
        raise TableError(
            f"{uri}: none of its {table.success.num_rows} frames was segmented; there is nothing to compare"
        )
    return table
