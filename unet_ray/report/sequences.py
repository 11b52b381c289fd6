"""The groups of a job, the worst first, each with a strip of its frames.

Shapes: N rows, G groups, C columns of a strip.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_ray.metrics import ratios, score_each
from unet_ray.report.content import SequenceRow, Sequences, Strip
from unet_ray.report.frames import Frames

_COLUMNS = 400
_MOST = 50


def list_sequences(frames: Frames, background: int | None) -> Sequences:
    """Return the groups by their mIoU, those without by what is expected of them, then by their confidence.

    Strips show the mIoU of each frame, or without any truth its confidence. Frames stand in the order of their numbers;
    where those or the group are unknown, in that of the plan.
    """
    miou_G = score_each(frames.margins_G3K, background).miou
    confidence_G = ratios(_add_up(frames, frames.confidence_sum), 255 * _add_up(frames, frames.pixels))
    is_known = ~np.isnan(frames.expected_miou)
    expected_G = ratios(_add_up(frames, np.where(is_known, frames.expected_miou, 0)), _add_up(frames, is_known))
    flicker_G = ratios(_add_up(frames, frames.lasting_N2[:, 0]), _add_up(frames, frames.lasting_N2.sum(1)))
    frames_G, ok_G = _add_up(frames, np.ones_like(frames.group)), _add_up(frames, frames.is_ok)
    has_truth = bool(frames.has_truth.any())
    values_N = frames.miou if has_truth else ratios(frames.confidence_sum, 255 * frames.pixels)
    order = np.lexsort((np.array(frames.groups), confidence_G, expected_G, miou_G))
    return Sequences(
        rows=tuple(
            SequenceRow(
                group=frames.groups[group],
                frames=int(frames_G[group]),
                quarantined=int(frames_G[group] - ok_G[group]),
                miou=_defined(miou_G[group]),
                confidence=_defined(confidence_G[group]),
                expected_miou=_defined(expected_G[group]),
                flicker=_defined(flicker_G[group]),
                strip=_strip(frames, values_N, group),
            )
            for group in order[:_MOST].tolist()
        ),
        total=len(frames.groups),
        measure="mIoU" if has_truth else "confidence",
    )


def _add_up(frames: Frames, values_N: NDArray[Any]) -> NDArray[np.float64]:
    """Return the sum of values over each group, exact for integers below 2^53."""
    return np.bincount(frames.group, values_N, len(frames.groups)).astype(np.float64)


def _strip(frames: Frames, values_N: NDArray[np.float64], group: int) -> Strip:
    places = np.flatnonzero(frames.group == group)
    if frames.groups[group]:
        places = places[np.argsort(frames.frame[places], kind="stable")]
    values = values_N[places]
    columns = min(len(values), _COLUMNS)
    lowest_C = np.fmin.reduceat(values, np.arange(columns) * len(values) // columns)
    if np.isnan(values).all():
        return Strip(values=lowest_C, lowest=None)
    place = places[np.nanargmin(values)]
    number = int(frames.frame[place])
    return Strip(values=lowest_C, lowest=f"row {place}" if number < 0 else f"frame {number}")


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
