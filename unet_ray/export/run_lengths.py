"""Run lengths of masks as COCO writes them (``maskApi.c`` of the COCO API, github.com/cocodataset/cocoapi).

Pixels are counted down the columns, from the left: those outside, then those inside, in turns. A text holds each count
in groups of five bits, the lowest first; from the fourth count on it is the difference to the one two before.
"""

import numpy as np
from numpy.typing import NDArray


def count_runs(inside: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the run lengths of an ``(H, W)`` mask; the first one is 0 where the first pixel is inside."""
    flat = inside.ravel(order="F")
    starts = np.flatnonzero(np.diff(flat, prepend=False))
    return np.diff(starts, prepend=0, append=flat.size)


def pack_runs(counts: NDArray[np.int64]) -> str:
    """Return run lengths as COCO's text."""
    left = counts.astype(np.int64)
    left[3:] -= counts[1:-2]
    characters, used = [], []
    more = np.ones(len(left), np.bool_)
    while more.any():
        used.append(more)
        group, left = left & 31, left >> 5
        ends = np.where(group & 16, left == -1, left == 0)  # the highest bit of the last group is the sign
        characters.append(group + 32 * ~ends + 48)
        more = more & ~ends
    return np.stack(characters, axis=1)[np.stack(used, axis=1)].astype(np.uint8).tobytes().decode("ascii")
