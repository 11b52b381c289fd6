"""Small videos whose frames carry their number, made by OpenCV's encoders, and damage done to them."""

import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

HEIGHT, WIDTH, FPS = 48, 64, 25.0
_CELL = 16
_BITS = (HEIGHT // _CELL) * (WIDTH // _CELL)
_Boxes = Iterator[tuple[bytes, int, int]]


def draw_number(number: int) -> NDArray[np.uint8]:
    """Return a ``(48, 64, 3)`` uint8 picture of twelve squares: the bits of a number."""
    frame = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
    for bit in range(_BITS):
        if number >> bit & 1:
            row, column = divmod(bit, WIDTH // _CELL)
            frame[row * _CELL : (row + 1) * _CELL, column * _CELL : (column + 1) * _CELL] = 220
    return frame


def read_number(frame: NDArray[np.uint8]) -> int:
    """Return the number of a picture, from the middles of its squares."""
    middles = frame.reshape(HEIGHT // _CELL, _CELL, WIDTH // _CELL, _CELL, 3)[:, 4:12, :, 4:12].mean(axis=(1, 3, 4))
    return sum(1 << bit for bit, level in enumerate(middles.ravel()) if level > 130)


def write_video(
    path: Path,
    num_frames: int = 100,
    codec: str = "mp4v",
    fps: float = FPS,
    draw: Callable[[int], NDArray[np.uint8]] = draw_number,
) -> Path:
    """Write frames of RGB as a video; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    first = draw(0)
    size = (first.shape[1], first.shape[0])
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), fps, size)
    assert writer.isOpened(), f"no encoder for {codec} in {path.suffix}"
    for number in range(num_frames):
        writer.write(draw(number)[:, :, ::-1])
    writer.release()
    return path


def retimed(mp4: bytes, durations: Sequence[tuple[int, int]]) -> bytes:
    """Return an MP4 whose frames last as given, as (number of frames, duration) in ticks; all of it is shown."""
    table = struct.pack(">II", 0, len(durations)) + b"".join(struct.pack(">II", *entry) for entry in durations)
    mp4 = _with_box(mp4, (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stts"), table)
    return mp4.replace(b"edts", b"free")


def turned(mp4: bytes) -> bytes:
    """Return an MP4 that says it is to be shown turned by a quarter, clockwise."""
    matrix = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, HEIGHT << 16, 0, 1 << 30)
    at = mp4.index(b"tkhd") + 44  # version 0: ISO/IEC 14496-12, 8.3.2
    return mp4[:at] + matrix + mp4[at + len(matrix) :]


def _with_box(data: bytes, path: tuple[bytes, ...], content: bytes) -> bytes:
    """Replace the content of a box; what lies before it, the frames, stays where it is."""
    changed = b""
    for kind, start, end in _boxes(data):
        if kind == path[0]:
            inner = content if len(path) == 1 else _with_box(data[start + 8 : end], path[1:], content)
            changed += struct.pack(">I", 8 + len(inner)) + kind + inner
        else:
            changed += data[start:end]
    return changed


def _boxes(data: bytes) -> _Boxes:
    at = 0
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        yield data[at + 4 : at + 8], at, at + size
        at += size
