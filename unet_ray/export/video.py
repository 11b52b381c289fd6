"""Videos: the frames of a group one after the other, under the colours of their classes."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from unet_ray.errors import ImageError, StorageError
from unet_ray.export.frames import Frame
from unet_ray.export.sink import Sink, Write
from unet_ray.images.paint import blend
from unet_ray.images.resize import resize_image
from unet_ray.images.video import Video

_CODEC = "mp4v"  # MPEG-4 Part 2: what OpenCV's own FFmpeg encodes fast; it has no H.264


@contextmanager
def video(sink: Sink, *, fps: float, beside: bool) -> Iterator[Write]:
    """Write an MP4 of the size of its first frame, to which others are resized; ``beside`` has the photo on the left.

    Raises:
        StorageError: The disk of the temporary folder, where it is made, is full.
    """
    name = f"{sink.key:09d}.mp4"
    with tempfile.TemporaryDirectory() as scratch:
        movie = _Movie(Path(scratch, name), fps)

        def write(frame: Frame) -> None:
            photo = frame.read_photo().image
            picture = blend(photo, frame.mask, sink.classes.palette)
            movie.add(np.hstack([photo, picture]) if beside else picture)
            sink.enter_frame(frame, name)

        try:
            yield write
        finally:
            movie.close()
        if sink.frames:
            movie.check(sink.frames)
            sink.send(name, movie.file)


class _Movie:
    """A video in the making."""

    def __init__(self, file: Path, fps: float) -> None:
        self.file = file
        self._fps = fps
        self._size = (0, 0)
        self._writer = cv2.VideoWriter()

    def add(self, picture: NDArray[np.uint8]) -> None:
        """Add an ``(H, W, 3)`` uint8 RGB picture."""
        if not self._writer.isOpened():
            self._size = picture.shape[:2]
            codec = cv2.VideoWriter.fourcc(*_CODEC)
            self._writer.open(str(self.file), cv2.CAP_FFMPEG, codec, self._fps, self._size[::-1])
        self._writer.write(np.ascontiguousarray(resize_image(picture, *self._size)[:, :, ::-1]))

    def close(self) -> None:
        """Finish the file."""
        self._writer.release()

    def check(self, num_frames: int) -> None:
        """Make sure that all frames are there: the encoder tells nobody that it failed."""
        try:
            with self.file.open("rb") as file:
                found = Video(file, sys.maxsize).facts.frames
        except (OSError, ImageError):
            found = 0
        if found != num_frames:
            raise StorageError(
                f"could not write a video of {num_frames} frames: {found} are in {self.file}; make room on that "
                "disk, or set TMPDIR to a folder on another one"
            )
