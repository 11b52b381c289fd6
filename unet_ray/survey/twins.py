"""Frames that look alike: difference hashes, and the search for pairs of them that does not compare all with all.

A difference hash says of each of 64 places whether the picture gets brighter to the right (Krawetz, "Kind of like
that", hackerfactor.com, 2013). Two hashes that differ in at most `MOST_BITS` bits agree in one of as many bands plus
one, so that only frames which share a band are compared; what is left is held to the thumbnails themselves. Where
very many share a band, as in the film of a camera that stands still, a frame is compared with those whose hashes go on
alike.
"""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

MOST_BITS = 4
"""Bits in which the hashes of twins may differ."""
MOST_GREY = 12.0
"""Mean absolute difference of the thumbnails of twins, in grey levels of 256."""

_WIDTH, _HEIGHT = 9, 8
THUMB_PIXELS = _WIDTH * _HEIGHT
_BANDS = ((0, 13), (13, 13), (26, 13), (39, 13), (52, 12))  # first bit and number of bits
_CROWD = 512  # others on either side, in the order of the hashes from the band on, that a frame is compared with
_PAIRS_AT_ONCE = 2**20
_ONES = np.array([value.bit_count() for value in range(65536)], np.uint8)


class Twins(NamedTuple):
    """For each frame that has a twin among the others: its place, the place of the nearest, and their bits apart."""

    frames: NDArray[np.int64]
    others: NDArray[np.int64]
    bits: NDArray[np.int64]


def make_thumb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an ``(H, W, 3)`` uint8 RGB image as 8 rows of 9 grey pixels, averaged: ``(72,)`` uint8."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(grey, (_WIDTH, _HEIGHT), interpolation=cv2.INTER_AREA), np.uint8).ravel()


def hash_thumbs(thumbs: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return the difference hash of ``(N, 72)`` uint8 thumbnails."""
    grey = thumbs.reshape(-1, _HEIGHT, _WIDTH)
    bits = np.packbits(grey[:, :, 1:] > grey[:, :, :-1], axis=2).reshape(-1, _HEIGHT)
    return np.ascontiguousarray(bits).view(np.uint64).ravel()


def find_twins(thumbs: NDArray[np.uint8], other_thumbs: NDArray[np.uint8]) -> Twins:
    """Find for each frame the nearest of the other frames that is a near duplicate of it.

    Args:
        thumbs: ``(N, 72)`` uint8.
        other_thumbs: ``(M, 72)`` uint8.

    Returns:
        The frames that have one, in ascending order. Among equally near ones the first is taken.
    """
    hashes, other_hashes = hash_thumbs(thumbs), hash_thumbs(other_thumbs)
    nothing = np.iinfo(np.int64).max
    best = np.full(len(hashes), nothing)  # bits apart, then the place of the other: the least is the nearest
    for first, bits in _BANDS:
        turned, other_turned = (_turn(found, first + bits) for found in (hashes, other_hashes))
        order = np.argsort(other_turned, kind="stable")
        ranked, rest = other_turned[order], np.uint64(64 - bits)
        place = np.searchsorted(ranked, turned)
        low = np.maximum(np.searchsorted(ranked >> rest, turned >> rest, "left"), place - _CROWD)
        counts = np.minimum(np.searchsorted(ranked >> rest, turned >> rest, "right"), place + _CROWD) - low
        ends = np.cumsum(counts)
        for start in range(0, int(ends[-1]) if len(ends) else 0, _PAIRS_AT_ONCE):
            pairs = np.arange(start, min(start + _PAIRS_AT_ONCE, int(ends[-1])))
            frames = np.searchsorted(ends, pairs, "right")
            others = order[low[frames] + pairs - (ends - counts)[frames]]
            apart = _count_ones(hashes[frames] ^ other_hashes[others])
            near = apart <= MOST_BITS
            frames, others, apart = frames[near], others[near], apart[near]
            grey = np.abs(thumbs[frames].astype(np.int16) - other_thumbs[others]).mean(axis=1)
            alike = grey <= MOST_GREY
            np.minimum.at(best, frames[alike], (apart[alike] << 48) + others[alike])
    found = np.flatnonzero(best < nothing)
    return Twins(found, best[found] & (2**48 - 1), best[found] >> 48)


def _turn(numbers: NDArray[np.uint64], bits: int) -> NDArray[np.uint64]:
    """Rotate numbers so that the band which ends at a bit comes first."""
    low = np.uint64(bits % 64)
    return numbers if not low else numbers >> low | numbers << np.uint64(64) - low


def _count_ones(numbers: NDArray[np.uint64]) -> NDArray[np.int64]:
    return np.asarray(_ONES[numbers.view(np.uint16).reshape(-1, 4)].sum(axis=1, dtype=np.int64))
