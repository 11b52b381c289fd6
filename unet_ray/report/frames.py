"""The numbers of all frames of a table of predictions, in one pass over it; memory is some 100 bytes a frame.

Shapes: N planned rows, G groups, U units of resampling, K classes.
"""

from collections import defaultdict
from dataclasses import dataclass
from operator import itemgetter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from unet_ray.intervals import deal
from unet_ray.metrics import count_margins, score_each
from unet_ray.report.content import Quarantined
from unet_ray.schema import OK
from unet_ray.table.read import Table

MOST_QUARANTINED = 50

_NUMBERS = ("row_id", "group", "frame", "status", "height", "width", "entropy_sum", "expected_miou", "copied_from")
_LISTS = ("confusion", "confidence_sum", "lasting")
_ERRORS = ("image_id", "error_code", "error_message")


@dataclass(frozen=True, kw_only=True, slots=True)
class Frames:
    """The rows of a table in plan order; what a row does not have is 0 or NaN.

    ``frame`` is -1 where unknown. ``confidence_sum`` is in 1/255 of ``pixels``, ``entropy_sum`` in 1/255 of log(K).
    ``lasting`` are pixels with another class than in the frame before, and with the same. ``miou`` is a frame's own.
    What adds up of scores (`metrics.count_margins`) is summed by group, and by unit of resampling that has truth.
    """

    is_ok: NDArray[np.bool_]
    has_truth: NDArray[np.bool_]
    is_copied: NDArray[np.bool_]
    group: NDArray[np.int64]  # places in `groups`
    frame: NDArray[np.int64]
    pixels: NDArray[np.int64]
    confidence_sum: NDArray[np.int64]
    entropy_sum: NDArray[np.int64]
    lasting_N2: NDArray[np.int64]
    miou: NDArray[np.float64]
    expected_miou: NDArray[np.float64]
    groups: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]  # (height, width) of ok frames, each once, smallest first
    margins_G3K: NDArray[np.int64]
    margins_U3K: NDArray[np.int64]
    quarantined: tuple[Quarantined, ...]  # the first few

    @property
    def scored_groups(self) -> NDArray[np.int64]:
        """The places of the groups that have truth."""
        return np.unique(self.group[self.has_truth])


def read_frames(table: Table, num_classes: int, background: int | None, seed: int) -> Frames:
    """Read a table of predictions.

    Args:
        table: The table.
        num_classes: K.
        background: Class that object scores leave out.
        seed: Seed of the units of resampling, where there are more frames than `intervals` draws one by one.
    """
    tally = _Tally(table.plan.num_rows, num_classes, background, seed)
    for part in table.scan((*_NUMBERS, *_LISTS, *_ERRORS)):
        tally.add(part)
    return tally.frames()


class _Tally:
    """What is known of the frames so far; parts come in any order."""

    def __init__(self, num_rows: int, num_classes: int, background: int | None, seed: int) -> None:
        self._num_classes, self._background = num_classes, background
        self._is_ok, self._has_truth, self._is_copied = (np.zeros(num_rows, bool) for _ in range(3))
        self._group, self._pixels, self._confidence_sum, self._entropy_sum = (
            np.zeros(num_rows, np.int64) for _ in range(4)
        )
        self._frame = np.full(num_rows, -1)
        self._lasting_N2 = np.zeros((num_rows, 2), np.int64)
        self._miou, self._expected_miou = (np.full(num_rows, np.nan) for _ in range(2))
        self._codes: dict[str, int] = {}
        self._sizes: set[tuple[int, int]] = set()
        self._unit = deal(num_rows, seed)
        self._margins_U3K = np.zeros((self._unit.max() + 1, 3, num_classes), np.int64)
        self._margins: defaultdict[int, NDArray[np.int64]] = defaultdict(lambda: np.zeros((3, num_classes), np.int64))
        self._quarantined: list[tuple[int, Quarantined]] = []

    def add(self, part: pa.Table) -> None:
        row_id = part["row_id"].to_numpy()
        self._group[row_id] = self._encode(part["group"])
        self._frame[row_id] = part["frame"].fill_null(-1).to_numpy()
        is_ok = pc.equal(part["status"], OK)
        self._add_ok(part.filter(is_ok))
        self._add_quarantined(part.filter(pc.invert(is_ok)))

    def _encode(self, groups: pa.ChunkedArray) -> NDArray[np.int64]:
        """Return the place of each group among those met so far."""
        found = groups.combine_chunks().dictionary_encode()
        codes = [self._codes.setdefault(name, len(self._codes)) for name in found.dictionary.to_pylist()]
        return np.array([codes[place] for place in found.indices.to_pylist()], np.int64)

    def _add_ok(self, rows: pa.Table) -> None:
        row_id = rows["row_id"].to_numpy()
        height, width = (rows[name].to_numpy().astype(np.int64) for name in ("height", "width"))
        self._sizes |= set(zip(height.tolist(), width.tolist(), strict=True))
        self._is_ok[row_id] = True
        self._is_copied[row_id] = rows["copied_from"].is_valid().to_numpy()
        self._pixels[row_id] = height * width
        self._entropy_sum[row_id] = rows["entropy_sum"].to_numpy()
        self._confidence_sum[row_id] = _lists(rows["confidence_sum"]).sum(1)
        self._expected_miou[row_id] = rows["expected_miou"].fill_null(np.nan).to_numpy()
        known = rows["lasting"].is_valid().to_numpy()
        self._lasting_N2[row_id[known]] = _lists(rows["lasting"]).reshape(-1, 2, self._num_classes).sum(2)
        self._add_truth(row_id[rows["confusion"].is_valid().to_numpy()], _lists(rows["confusion"]))

    def _add_truth(self, row_id: NDArray[np.int64], confusion: NDArray[np.int64]) -> None:
        margins_N3K = count_margins(confusion.reshape(-1, self._num_classes, self._num_classes))
        self._has_truth[row_id] = True
        self._miou[row_id] = score_each(margins_N3K, self._background).miou
        np.add.at(self._margins_U3K, self._unit[row_id], margins_N3K)
        for group in np.unique(self._group[row_id]).tolist():
            self._margins[group] += margins_N3K[self._group[row_id] == group].sum(0)

    def _add_quarantined(self, rows: pa.Table) -> None:
        for row in rows.select(["row_id", *_ERRORS]).to_pylist():
            self._quarantined.append((row.pop("row_id"), Quarantined(**row)))
        self._quarantined = sorted(self._quarantined, key=itemgetter(0))[:MOST_QUARANTINED]

    def frames(self) -> Frames:
        with_truth = np.unique(self._unit[self._has_truth])
        return Frames(
            is_ok=self._is_ok,
            has_truth=self._has_truth,
            is_copied=self._is_copied,
            group=self._group,
            frame=self._frame,
            pixels=self._pixels,
            confidence_sum=self._confidence_sum,
            entropy_sum=self._entropy_sum,
            lasting_N2=self._lasting_N2,
            miou=self._miou,
            expected_miou=self._expected_miou,
            groups=tuple(self._codes),
            sizes=tuple(sorted(self._sizes)),
            margins_G3K=np.stack([self._margins[group] for group in range(len(self._codes))]),
            margins_U3K=self._margins_U3K[with_truth],
            quarantined=tuple(one for _, one in self._quarantined),
        )


def _lists(lists: pa.ChunkedArray) -> NDArray[np.int64]:
    """Return the lists that are there, of one length L, as ``(n, L)`` int64."""
    number = len(lists) - lists.null_count
    values: NDArray[np.int64] = pc.list_flatten(lists).to_numpy()
    return values.reshape(number, len(values) // number if number else 0)
