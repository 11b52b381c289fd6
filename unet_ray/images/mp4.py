"""The table of times of an MP4 or MOV (ISO/IEC 14496-12), which spares a pass over all of its packets."""

import io
import struct
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

_VIDEO = struct.unpack(">I", b"vide")
_MOST_BOXES = 1000  # of one parent, which could hold millions of empty ones


class _Box(NamedTuple):
    kind: bytes
    start: int  # of its content
    end: int


def count_even_frames(file: io.BufferedIOBase) -> int | None:
    """Return the number of frames of a file where all last equally long; None where its tables do not say so.

    None also for files in fragments, of several video tracks, or put together from several cuts.
    """
    try:
        whole = _Box(b"", 0, file.seek(0, io.SEEK_END))
        tracks = [box for movie in _inside(file, whole, b"moov") for box in _inside(file, movie, b"trak")]
        videos = [track for track in tracks if _words(file, track, b"mdia", b"hdlr")[2:3] == _VIDEO]
        if len(videos) != 1 or _words(file, videos[0], b"edts", b"elst")[1:2] > (1,):
            return None
        _, entries, frames, _ = _words(file, videos[0], b"mdia", b"minf", b"stbl", b"stts")
    except (struct.error, ValueError):
        return None
    return frames if entries == 1 and frames > 0 else None


def _words(file: io.BufferedIOBase, box: _Box, *path: bytes) -> tuple[int, ...]:
    """Return up to four of the 32-bit numbers that a nested box starts with; none where it is missing."""
    for kind in path:
        found = next(_inside(file, box, kind), None)
        if found is None:
            return ()
        box = found
    count = min(4, (box.end - box.start) // 4)
    file.seek(box.start)
    return struct.unpack(f">{count}I", file.read(4 * count))


def _inside(file: io.BufferedIOBase, box: _Box, kind: bytes) -> Iterator[_Box]:
    return (child for child in islice(_children(file, box), _MOST_BOXES) if child.kind == kind)


def _children(file: io.BufferedIOBase, box: _Box) -> Iterator[_Box]:
    at = box.start
    while at + 8 <= box.end:
        file.seek(at)
        size, kind = struct.unpack(">I4s", file.read(8))
        header = 8
        if size == 1:
            (size,), header = struct.unpack(">Q", file.read(8)), 16
        end = at + size if size else box.end
        if size and size < header:
            return
        yield _Box(kind, at + header, min(end, box.end))
        at = end
