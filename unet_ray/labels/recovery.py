"""From the pixels of a mask file to class ids: what each stored number or colour means.

One lookup serves every scheme. Stored ids, palette indices, a channel and its bins are numbers in 0..65535; colours
and K-Means centroids are RGB, exact or the nearest one. Pure functions of arrays; tables are kept per process.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from unet_ray.errors import ImageError
from unet_ray.schema import IGNORE_INDEX

Read = Literal["ids", "red", "green", "blue", "max", "bins", "colour"]
"""What of a pixel is its key: the stored number, the id in one of its channels or in the largest of them, its red where
neighbours mean the same, or its colour."""

_CHANNELS: Mapping[Read, int] = {"red": 0, "green": 1, "blue": 2, "bins": 0}

_UNKNOWN, _UNSEEN = 253, 254  # in tables: a key of no class, and a colour that nobody asked for yet
_COLOURS_AT_ONCE = 65_536
_NUM_NAMED = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Recovery:
    """How the pixels of a mask become class ids; hashable, and JSON by ``dataclasses.asdict``.

    ``keys`` are stored values, ``(value,)``, or RGB colours, ``(r, g, b)``; ``class_ids`` has the class of each, 255
    where it is ignored. ``max_distance``: how far (Euclidean, in RGB units) a colour may be from the nearest key, None
    for any distance. A pixel of no key is ``unknown``: its file is refused, or it is ignored. ``mode_filter`` is the
    width in pixels of the window whose most frequent class replaces the centre, 1 for none. ``hood``: pixels of a
    class, from a row down, are ignored.
    """

    read: Read = "ids"
    keys: tuple[tuple[int, ...], ...]
    class_ids: tuple[int, ...]
    max_distance: int | None = 0
    unknown: Literal["reject", "ignore"] = "reject"
    mode_filter: int = 1
    hood: tuple[int, int] | None = None

    @property
    def needs_exact_pixels(self) -> bool:
        """Whether a number that is a little off is another class, so that JPEG and scaling would spoil it unseen."""
        return self.read in ("red", "green", "blue", "max")

    @staticmethod
    def from_facts(facts: Mapping[str, Any]) -> "Recovery":
        """Return the recovery that ``dataclasses.asdict`` and JSON made a document of."""
        hood = facts["hood"]
        return Recovery(
            **{
                **facts,
                "keys": tuple(tuple(key) for key in facts["keys"]),
                "class_ids": tuple(facts["class_ids"]),
                "hood": None if hood is None else (hood[0], hood[1]),
            }
        )

    def to_class_ids(self, pixels: NDArray[Any]) -> NDArray[np.uint8]:
        """Map the pixels of a mask to ``(H, W)`` uint8 class ids, 255 where ignored.

        Args:
            pixels: ``(H, W)`` uint16 numbers to read ids, else ``(H, W, 3)`` uint8 RGB.

        Raises:
            ImageError: class_id_out_of_range or unknown_colour, with those found and their pixels.
        """
        mask = self._look_up_colours(pixels) if self.read == "colour" else self._look_up_values(pixels)
        if self.mode_filter > 1:
            mask = filter_mode(mask, self.mode_filter)
        if self.hood is not None:
            class_id, row = self.hood
            below = mask[row:]
            below[below == class_id] = IGNORE_INDEX
        return mask

    def _look_up_values(self, pixels: NDArray[Any]) -> NDArray[np.uint8]:
        if self.read == "ids":
            values = pixels
        elif self.read == "max":
            values = pixels.max(axis=2)
        else:
            values = pixels[:, :, _CHANNELS[self.read]]
        mask = np.take(_value_table(self), values)
        strange = mask == _UNKNOWN
        if strange.any():
            if self.unknown == "reject":
                known = _join([key for (key,) in self.keys])
                raise ImageError(
                    "class_id_out_of_range",
                    f"values {_count(values[strange], str)}; known are {known} (labels.values, labels.ignore_ids)",
                )
            mask[strange] = IGNORE_INDEX
        return mask

    def _look_up_colours(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        colours = pack_colours(pixels)
        table = _colour_table(self)
        mask = np.take(table, colours)
        unseen = mask == _UNSEEN
        if unseen.any():
            new = np.unique(colours[unseen])
            table[new] = _nearest(new, self)
            mask = np.take(table, colours)
        strange = mask == _UNKNOWN
        if strange.any():
            if self.unknown == "reject":
                rule = f"within {self.max_distance} of a known one" if self.max_distance else "known"
                found = _count(colours[strange], name_colour)
                raise ImageError(
                    "unknown_colour", f"colours {found} are not {rule} (labels.palette, labels.max_distance)"
                )
            mask[strange] = IGNORE_INDEX
        return mask


def pack_colours(pixels: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Return ``(H, W, 3)`` RGB as ``(H, W)`` numbers, red in the lowest byte."""
    packed = cv2.cvtColor(pixels, cv2.COLOR_RGB2RGBA).view(np.uint32)[:, :, 0]
    return np.bitwise_and(packed, 0xFFFFFF)


def unpack_colours(packed: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """Return numbers of `pack_colours`, ``(N,)``, as ``(N, 3)`` RGB."""
    return np.stack([packed & 255, packed >> 8 & 255, packed >> 16 & 255], axis=1).astype(np.uint8)


def filter_mode(mask: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """Replace each pixel by the most frequent class of a square window, the lowest id among equals.

    Ignored pixels have no vote and stay ignored; windows end at the border.

    Args:
        mask: ``(H, W)`` uint8 class ids.
        width: Odd number of pixels.
    """
    present = [class_id for class_id in np.unique(mask).tolist() if class_id != IGNORE_INDEX]
    result, most = mask.copy(), np.zeros(mask.shape, np.int16)
    for class_id in present:
        votes = cv2.boxFilter((mask == class_id).astype(np.uint8), cv2.CV_16S, (width, width), normalize=False,
                              borderType=cv2.BORDER_CONSTANT)  # fmt: skip
        more = votes > most
        result[more] = class_id
        most[more] = votes[more]
    result[mask == IGNORE_INDEX] = IGNORE_INDEX
    return result


@functools.lru_cache(maxsize=4)
def _value_table(recovery: Recovery) -> NDArray[np.uint8]:
    table = np.full(65536, _UNKNOWN, np.uint8)
    table[[key for (key,) in recovery.keys]] = recovery.class_ids
    return table


@functools.lru_cache(maxsize=2)
def _colour_table(recovery: Recovery) -> NDArray[np.uint8]:
    """Return 16 MiB in which colours are filled in as they are met: a mask file has few of all 2 ** 24."""
    return np.full(2**24, _UNSEEN if recovery.keys else _UNKNOWN, np.uint8)


def nearest_colours(
    colours: NDArray[np.uint8], keys: NDArray[np.uint8]
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return the place of the nearest of ``(K, 3)`` keys to each of ``(N, 3)`` colours, and its squared distance.

    The first among equals; K > 0. Distances are Euclidean, in RGB units, and exact.
    """
    places, squares = np.empty(len(colours), np.intp), np.empty(len(colours), np.float32)
    known = keys.astype(np.float32)
    for first in range(0, len(colours), _COLOURS_AT_ONCE):
        some = slice(first, first + _COLOURS_AT_ONCE)
        part = colours[some].astype(np.float32)
        apart = np.zeros((len(part), len(keys)), np.float32)
        for channel in range(3):
            apart += (part[:, channel, None] - known[:, channel]) ** 2
        places[some], squares[some] = apart.argmin(axis=1), apart.min(axis=1)
    return places, squares


def _nearest(packed: NDArray[np.uint32], recovery: Recovery) -> NDArray[np.uint8]:
    """Return the class of the nearest key of each colour; _UNKNOWN where it is too far."""
    places, squares = nearest_colours(unpack_colours(packed), np.array(recovery.keys, np.uint8))
    found = np.array(recovery.class_ids, np.uint8)[places]
    if recovery.max_distance is not None:
        found[squares > recovery.max_distance**2] = _UNKNOWN
    return found


def _count(values: NDArray[Any], name: Callable[[int], str]) -> str:
    """Return the most frequent values with their pixels, and how many more there are."""
    found, pixels = np.unique(values, return_counts=True)
    order = np.argsort(-pixels, kind="stable")[:_NUM_NAMED]
    named = ", ".join(f"{name(int(found[i]))} ({pixels[i]} px)" for i in order)
    return f"{named} and {len(found) - _NUM_NAMED} more" if len(found) > _NUM_NAMED else named


def name_colour(packed: int) -> str:
    """Return a number of `pack_colours` as ``(r, g, b)``."""
    return f"({packed & 255}, {packed >> 8 & 255}, {packed >> 16 & 255})"


def _join(values: Sequence[int]) -> str:
    """Return numbers as text, runs of three and more as ``first..last``."""
    runs: list[list[int]] = []
    for value in sorted(values):
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    texts = [f"{run[0]}..{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs]
    return ", ".join(texts)
