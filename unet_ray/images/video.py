"""Decoding videos: frames by their index in the file, which is read in parts.

A window of frames costs one seek and a walk. Seeking goes by time, so it is trusted only where the frames of a file
are evenly spaced, which the tables of an MP4 tell, and for others a pass over the packets without decoding them; and
where the decoder then lands on the frame it was asked for. Elsewhere frames are counted from the start: slower, and
as exact.

Runs in tasks and, for what a header says, on the driver; raises `ImageError` for what is wrong with a file for good.
"""

import io
import os
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from unet_ray.errors import ImageError
from unet_ray.images.mp4 import count_even_frames

VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm"})
"""Lower-case endings of the files that are taken for videos."""

_BLOCK_BYTES = 2**20
_MOST_BLOCKS = 8
_LONGEST_WALK = 256  # frames decoded rather than sought over: as many as may lie between two key frames
_STEPS_BACK = (0, 64, 512)  # where to try to land, in frames before the wanted one
_RAW = -1  # of CAP_PROP_FORMAT: packets are read, not decoded
_ISO_BOXES = frozenset({b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide"})  # what an MP4 or MOV starts with

Source = io.RawIOBase | io.BufferedIOBase
"""A file that can be read from anywhere, such as an `object_file.ObjectFile`."""

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoFacts:
    """What the header of a video says: number of frames, frames per second, and their size in pixels when upright."""

    frames: int
    fps: float
    height: int
    width: int


def is_video(key: str) -> bool:
    """Tell whether a name ends like that of a video."""
    return PurePosixPath(key).suffix.lower() in VIDEO_SUFFIXES


class Video:
    """An open video, fastest when its frames are read in ascending order."""

    def __init__(self, source: Source, max_pixels: int) -> None:
        """Open a video, read its header and decode its first frame.

        Args:
            source: The file. What it raises comes out of the method that made it read.
            max_pixels: Most pixels that a frame may have.

        Raises:
            ImageError: empty_object; not_a_video when the content is no MP4, MOV, AVI, MKV or WebM; corrupt when the
                header makes no sense; too_large; no_frames.
        """
        self._source = _Guarded(source)
        self._max_pixels = max_pixels
        self._even: bool | None = None
        self._present = 0
        """Most frames that there can be, once the packets were counted."""
        self._iso = _check_container(self._call(self._source.read, 16))
        self._start()
        self.facts = self._read_facts()

    def read(self, index: int) -> NDArray[np.uint8]:
        """Return a frame as ``(H, W, 3)`` uint8 RGB, turned upright where the file says how.

        Raises:
            ImageError: missing_frame when the file ends before it; corrupt when it cannot be decoded.
        """
        even = self._is_even()
        here = index < self._present and self._reach(index)
        if not here and (not even or index >= self._present):
            raise ImageError(
                "missing_frame", f"no frame {index}: the header says {self.facts.frames}, the file ends before it"
            )
        found, pixels = self._call(self._capture.retrieve) if here else (False, None)
        if not found:
            raise ImageError("corrupt", f"frame {index} cannot be decoded")
        return np.asarray(cv2.cvtColor(np.asarray(pixels), cv2.COLOR_BGR2RGB), np.uint8)

    def _start(self) -> None:
        """Open the file anew and decode its first frame."""
        self._capture = self._open()
        height, width = (int(self._capture.get(key)) for key in (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH))
        if height * width > self._max_pixels:
            raise ImageError("too_large", f"frames of {width} x {height} px, images.max_pixels is {self._max_pixels}")
        if not self._call(self._capture.grab):
            raise ImageError("no_frames", "the video holds no frame that can be decoded")
        self._at, self._first = 0, int(self._capture.get(cv2.CAP_PROP_PTS))

    def _open(self, *options: int) -> cv2.VideoCapture:
        self._call(self._source.seek, 0)
        one_thread = (cv2.CAP_PROP_N_THREADS, 1)
        capture = self._call(cv2.VideoCapture, self._source, cv2.CAP_FFMPEG, [*one_thread, *options])
        if not capture.isOpened():
            raise ImageError("corrupt", "the header of the video cannot be read; it may have been cut off")
        return capture

    def _read_facts(self) -> VideoFacts:
        get = self._capture.get
        frames, fps = get(cv2.CAP_PROP_FRAME_COUNT), get(cv2.CAP_PROP_FPS)
        num_bytes = self._call(self._source.seek, 0, os.SEEK_END)
        if not 0 < fps < 10_000 or frames > num_bytes:
            raise ImageError("corrupt", f"the header says {frames:.0f} frames, {fps:g} a second, in {num_bytes} bytes")
        if frames < 1:  # a recording that was never closed does not say
            self._is_even()
            frames = self._present
        height, width = get(cv2.CAP_PROP_FRAME_HEIGHT), get(cv2.CAP_PROP_FRAME_WIDTH)
        return VideoFacts(frames=int(frames), fps=fps, height=int(height), width=int(width))

    def _is_even(self) -> bool:
        """Tell whether each frame has the time of its index: by the file's own table, or else by its packets."""
        if self._even is None:
            frames = self._call(count_even_frames, self._source) if self._iso else None
            self._even, self._present = (True, frames) if frames is not None else self._read_times()
            self._start()
        return self._even

    def _read_times(self) -> tuple[bool, int]:
        """Return whether the packets have even times, and their number."""
        packets, times = self._open(cv2.CAP_PROP_FORMAT, _RAW), array("q")
        while self._call(packets.grab):
            times.append(int(packets.get(cv2.CAP_PROP_PTS)))
        found = np.sort(np.asarray(times, np.int64))
        return np.array_equal(found - found[:1], np.arange(len(found))), len(found)

    def _reach(self, index: int) -> bool:
        """Decode up to a frame, the shortest way that leads there; return whether it was met."""
        if self._at <= index <= self._at + _LONGEST_WALK and self._walk(index):
            return True
        landed = False
        for back in _STEPS_BACK if self._even else ():
            if back < index and self._seek(index - back):
                landed = True
                if self._walk(index):
                    return True
        if landed and index > _STEPS_BACK[-1]:
            return False  # a longer walk would end at the same damage
        if self._even or self._at > index:
            self._start()
        return self._walk(index)

    def _seek(self, index: int) -> bool:
        self._call(self._capture.set, cv2.CAP_PROP_POS_FRAMES, index)
        if not self._call(self._capture.grab):
            return False
        self._at = int(self._capture.get(cv2.CAP_PROP_PTS)) - self._first
        return 0 <= self._at <= index

    def _walk(self, index: int) -> bool:
        """Decode up to a frame; return whether it was met."""
        while self._at < index and self._call(self._capture.grab):
            time = int(self._capture.get(cv2.CAP_PROP_PTS)) - self._first
            self._at = max(self._at + 1, time) if self._even else self._at + 1  # a frame may be lost on the way
        return self._at == index

    def _call(self, function: Callable[..., _T], *args: Any) -> _T:
        try:
            result = function(*args)
        except cv2.error as error:
            raise ImageError("corrupt", f"the video decoder gave up: {' '.join(str(error).split())[:120]}") from None
        finally:
            self._source.raise_fault()
        return result


class _Guarded(io.BufferedIOBase):
    """A file with its last few blocks in memory, which keeps its exceptions: in the decoder they end the process."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._size = source.seek(0, os.SEEK_END)
        self._at = 0
        self._blocks: dict[int, bytes] = {}
        self._fault: BaseException | None = None

    def read(self, size: int | None = -1) -> bytes:
        end = self._size if size is None or size < 0 else min(self._size, self._at + size)
        parts = []
        try:
            while self._at < end:
                number, offset = divmod(self._at, _BLOCK_BYTES)
                parts.append(self._read_block(number)[offset : offset + end - self._at])
                self._at += len(parts[-1])
        except BaseException as fault:
            self._fault = fault
        return b"".join(parts)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = max(0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence])
        return self._at

    def _read_block(self, number: int) -> bytes:
        block = self._blocks.pop(number, None)
        if block is None:
            self._source.seek(number * _BLOCK_BYTES)
            block = self._source.read(_BLOCK_BYTES)
            if not block:
                raise ImageError("corrupt", f"the file ends after {number * _BLOCK_BYTES} of {self._size} bytes")
        self._blocks[number] = block
        if len(self._blocks) > _MOST_BLOCKS:
            del self._blocks[next(iter(self._blocks))]
        return block

    def raise_fault(self) -> None:
        fault, self._fault = self._fault, None
        if fault is not None:
            raise fault


def _check_container(start: bytes) -> bool:
    """Hold the start of a file to the containers that are read, before a decoder that knows far more looks at it.

    Returns:
        Whether it is an MP4 or MOV.
    """
    iso = start[4:8] in _ISO_BOXES
    if not start:
        raise ImageError("empty_object", "the file is empty")
    if not (iso or start.startswith(b"\x1aE\xdf\xa3") or (start.startswith(b"RIFF") and start[8:12] == b"AVI ")):
        raise ImageError("not_a_video", f"no MP4, MOV, AVI, MKV or WebM; it starts with {start[:12]!r}")
    return iso
