"""Where the frames of one task go: files and archives in the folder of the export, and entries of its documents."""

import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from unet_ray import storage
from unet_ray.export.documents import Document, csv_line, write_portion
from unet_ray.export.frames import Frame
from unet_ray.labels.classes import ClassMap
from unet_ray.metrics import score
from unet_ray.object_file import send_file

_COLUMNS = ("row_id", "image_id", "image_uri", "group", "frame", "split")
_SCORES = ("miou", "expected_miou", "pixel_accuracy", "confidence", "uncertainty")

FRAMES = Document(name="frames.csv", sections=((csv_line(["file", *_COLUMNS, *_SCORES]), "frames"),))
"""The list of every export: the file of each frame, what its row says of it, and its scores as `query` has them."""

_ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # so that an export that is repeated has the same bytes


class Sink:
    """What a format writes to. ``key`` names the portion (`frames.Portion`), and what it has one of."""

    def __init__(self, folder: str, key: int, classes: ClassMap, documents: Sequence[Document]) -> None:
        self.key = key
        self.classes = classes
        self.frames = 0
        """Frames that were written."""
        self.unreferenced = 0
        """Of these, those that lack the georeference that they were to have."""
        self._folder = folder
        self._documents = (FRAMES, *documents)
        self._entries: dict[str, list[str]] = defaultdict(list)

    def put(self, name: str, data: bytes) -> None:
        """Write a file."""
        storage.write(f"{self._folder}/{name}", data)

    def send(self, name: str, file: Path) -> None:
        """Write a file that lies on the local disk."""
        send_file(file, f"{self._folder}/{name}")

    def enter(self, section: str, entry: str) -> None:
        """Add an entry to a section of a document."""
        self._entries[section].append(entry)

    def enter_frame(self, frame: Frame, file: str) -> None:
        """Count a frame that was written, and list it as being in a file."""
        self.frames += 1
        self.enter("frames", csv_line([file, *(frame.row[name] for name in _COLUMNS), *_scores(frame)]))

    @contextmanager
    def archive(self, name: str) -> Iterator[Callable[[str, bytes], None]]:
        """Give what adds a file to an archive of this portion, which is written at the end if there was any frame."""
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch, "archive")
            with zipfile.ZipFile(file, "w") as archive:
                yield lambda name, data: archive.writestr(zipfile.ZipInfo(name, _ZIP_TIME), data)
            if self.frames:
                self.send(f"{name}-{self.key:06d}.zip", file)

    def close(self) -> None:
        """Write the portions of the documents, empty ones too."""
        sections = {section: document.between for document in self._documents for _, section in document.sections}
        for section, between in sections.items():
            write_portion(self._folder, section, self.key, between.join(self._entries[section]))


Write = Callable[[Frame], None]
"""What writes one frame; it raises ImageError, having written nothing, where the frame cannot be read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """How a kind of export is made.

    ``open`` gives what writes the frames of a portion, in order. ``documents`` are joined of its entries. ``files`` has
    what does not depend on frames, by name, from the classes and the URI of the folder, and raises ConfigError for
    classes that the format cannot hold. A portion is a shard or, ``by_group``, a group.
    """

    open: Callable[[Sink], AbstractContextManager[Write]]
    documents: Callable[[ClassMap], Sequence[Document]] = lambda classes: ()
    files: Callable[[ClassMap, str], dict[str, bytes]] = lambda classes, folder: {}
    by_group: bool = False


def _scores(frame: Frame) -> list[float | None]:
    row, pixels = frame.row, 255 * frame.mask.size
    scores = None if row["confusion"] is None else score(row["confusion"])
    return [
        scores and scores.miou,
        row["expected_miou"],
        scores and scores.pixel_accuracy,
        sum(row["confidence_sum"]) / pixels,
        row["entropy_sum"] / pixels,
    ]
