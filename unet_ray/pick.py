"""``unet-ray pick``: the frames whose labels would teach a model most, out of predictions without any truth.

Needs no Ray: it reads a few numbers of each row, part by part.

Shapes: N rows, K classes.
"""

import csv
import heapq
import io
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from unet_ray import storage
from unet_ray.columns import align
from unet_ray.errors import ConfigError
from unet_ray.schema import OK
from unet_ray.table.read import Table, open_predictions

_SHOWN = 10
_NAMES = ("row_id", "image_id", "image_uri", "group", "frame")
_COLUMNS = (*_NAMES, "status", "class_pixels", "entropy_sum")


@dataclass(frozen=True, kw_only=True, slots=True)
class Pick:
    """A frame to label.

    ``uncertainty`` is the mean entropy of its pixels' probabilities, in 0..1 of the largest there is. ``rarity`` is the
    mean over its pixels of -log of their predicted class's share of all pixels, in nats. ``score`` is their product.
    """

    image_id: str
    image_uri: str | None
    group: str
    frame: int | None
    score: float
    uncertainty: float
    rarity: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Picks:
    """What `run` wrote: the list, how many frames it names, of how many groups, out of how many ok rows."""

    output: str
    picked: int
    groups: int
    frames: int


def run(uri: str, output: str, count: int, gap: int) -> Picks:
    """Write a CSV of the frames to label first, and print the first of them to standard error.

    A frame's score counts half once one of its group was picked, a third after two, and so on, so that no sequence
    takes all places; within ``gap`` frames of a picked one nothing else is picked. The list has that order. With its
    masks filled in it is an input of ``prepare`` (``data.layout: list``), unless it names frames of videos, told
    apart by their number alone.

    Args:
        uri: A table of predictions.
        output: URI of the CSV.
        count: How many frames to pick, fewer if there are no more.
        gap: Frame numbers of a group that lie as near as this show the same.

    Raises:
        ConfigError: A number is out of its range.
        TableError: There is no complete table of predictions.
    """
    for name, value, least in (("--count", count, 1), ("--gap", gap, 0)):
        if value < least:
            raise ConfigError(f"{name}: must be >= {least}, got {value}")
    table = open_predictions(uri, "pick takes a table of predictions")
    enough = count * (2 * gap + 1)  # of a group, as each pick rules out so many
    picks = choose(_best_of_groups(table, enough), count, gap)
    storage.write(output, _csv(picks).encode())
    found = Picks(
        output=output, picked=len(picks), groups=len({pick.group for pick in picks}), frames=table.success.num_ok
    )
    shown = [(one.image_id, *(f"{v:.3f}" for v in (one.score, one.uncertainty, one.rarity))) for one in picks[:_SHOWN]]
    lines = align([("label first", "score", "uncertainty", "rarity"), *shown])
    sys.stderr.write("\n".join([*lines, "", f"{found.picked} frames of {found.groups} groups: {output}"]) + "\n")
    return found


def choose(candidates: Sequence[Pick], count: int, gap: int) -> list[Pick]:
    """Pick one after the other what has the highest score, divided by one more than are picked of its group."""
    queue = [(-one.score, place, 0) for place, one in enumerate(candidates)]
    heapq.heapify(queue)
    picked: list[Pick] = []
    of_group: dict[str, list[Pick]] = defaultdict(list)
    while queue and len(picked) < count:
        _, place, known = heapq.heappop(queue)
        one = candidates[place]
        others = of_group[one.group]
        if any(_is_near(one, other, gap) for other in others):
            continue
        if len(others) > known:
            heapq.heappush(queue, (-one.score / (1 + len(others)), place, len(others)))
            continue
        picked.append(one)
        others.append(one)
    return picked


def _is_near(one: Pick, other: Pick, gap: int) -> bool:
    return one.frame is not None and other.frame is not None and abs(one.frame - other.frame) <= gap


def _best_of_groups(table: Table, most: int) -> list[Pick]:
    """Return the rows of each group with the highest scores, best first; memory goes with the number of groups."""
    pixels_K = np.array(table.success.totals["class_pixels"] or [0], np.float64)
    rarity_K = -np.log(np.maximum(pixels_K, 1) / max(1.0, pixels_K.sum()))
    kept: dict[str, list[tuple[float, int, Pick]]] = defaultdict(list)
    for rows in table.scan(_COLUMNS):
        for row_id, pick in _scored(rows.filter(pc.equal(rows["status"], OK)), rarity_K):
            best = kept[pick.group]
            heapq.heappush(best, (pick.score, -row_id, pick))
            if len(best) > most:
                heapq.heappop(best)
    ranked = sorted((one for best in kept.values() for one in best), key=lambda one: (-one[0], -one[1]))
    return [pick for _, _, pick in ranked]


def _scored(rows: pa.Table, rarity_K: NDArray[np.float64]) -> Iterator[tuple[int, Pick]]:
    if not len(rows):
        return
    pixels_NK = np.array(rows["class_pixels"].to_pylist(), np.float64)
    pixels_N = pixels_NK.sum(1)
    uncertainty_N = rows["entropy_sum"].to_numpy() / (255 * pixels_N)
    rarity_N = pixels_NK @ rarity_K / pixels_N
    columns = (rows[name].to_pylist() for name in _NAMES)
    for (row_id, image_id, image_uri, group, frame), uncertainty, rarity in zip(
        zip(*columns, strict=True), uncertainty_N.tolist(), rarity_N.tolist(), strict=True
    ):
        yield (
            row_id,
            Pick(
                image_id=image_id,
                image_uri=image_uri,
                group=group,
                frame=frame,
                score=uncertainty * rarity,
                uncertainty=uncertainty,
                rarity=rarity,
            ),
        )


def _csv(picks: Sequence[Pick]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "mask", "group", "frame"])
    writer.writerows([one.image_uri, "", one.group, one.frame] for one in picks)
    return text.getvalue()
