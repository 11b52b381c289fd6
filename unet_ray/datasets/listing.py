"""A listing: the rows to plan, kept in a temporary file, so that memory does not grow with their number.

The file is an SQLite database without a name: it is gone when the listing is closed or its process ends. Rows lie in
it in plan order, and masks by the name of their image; both come nearly in that order from a store.
"""

import re
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

from unet_ray.config_input import DataSection
from unet_ray.datasets.names import natural_key, parse_frame, stem_of
from unet_ray.datasets.splits import count_splits, make_rule, split_settings
from unet_ray.errors import DatasetError, StorageError
from unet_ray.storage import ObjectInfo

Row = dict[str, Any]
"""One planned image: columns of `schema.PLAN` without row_id."""

_EXAMPLES = 5
_ROWS_AT_ONCE = 4096
_COLUMNS = (
    *("image_id", "image_uri", "image_etag", "image_bytes", "mask_uri", "mask_etag", "mask_bytes"),
    *("frame_index", "group", "frame", "split"),
)
_WITHOUT_FACTS: Row = dict.fromkeys(("image_etag", "image_bytes", "mask_etag", "mask_bytes", "frame_index"))
"""What a list need not tell of its files."""

# SQLite and Python look for a temporary folder in different places: here it is Python's. The cache, in KiB, is what a
# listing takes of memory; sorting takes as much again. Nothing is ever rolled back.
_FILE = """
PRAGMA temp_store_directory = '{folder}';
PRAGMA page_size = 16384;
PRAGMA cache_size = -32768;
PRAGMA journal_mode = OFF;
CREATE TABLE image (
  place PRIMARY KEY, image_id, image_uri, image_etag, image_bytes, mask_uri, mask_etag, mask_bytes,
  frame_index, "group", frame, split
) WITHOUT ROWID;
CREATE TABLE mask (stem PRIMARY KEY, is_png, uri, etag, bytes, is_paired) WITHOUT ROWID;
BEGIN;
"""
_ADD_MASK = """
INSERT INTO mask VALUES (?, ?, ?, ?, ?, FALSE) ON CONFLICT (stem) DO UPDATE
SET is_png = excluded.is_png, uri = excluded.uri, etag = excluded.etag, bytes = excluded.bytes
WHERE (excluded.is_png, excluded.uri) > (is_png, uri)
"""
_ADD_IMAGE = """
INSERT OR IGNORE INTO image SELECT ?, ?, ?, ?, ?, mask.uri, mask.etag, mask.bytes, NULL, ?, ?, ?
FROM (SELECT 1) LEFT JOIN mask ON stem = ?
"""
_ADD_ROW = f"INSERT INTO image VALUES ({', '.join(f':{name}' for name in ('place', *_COLUMNS))})"
_PAIR_MASK = "UPDATE mask SET is_paired = TRUE WHERE stem = ? AND NOT is_paired"
_FIND_SHARED_MASK = """
SELECT min(image_uri), max(image_uri), mask_uri FROM image
WHERE mask_uri IS NOT NULL GROUP BY mask_uri HAVING count(*) > 1 LIMIT 1
"""
_PAIR_WITH_ITSELF = "UPDATE image SET mask_uri = image_uri, mask_etag = image_etag, mask_bytes = image_bytes"
_UNLABELLED = "FROM image WHERE mask_uri IS NULL"
_FIND_REPEATS = """
CREATE TABLE repeat AS SELECT place, first FROM (
  SELECT place, min(place) OVER (PARTITION BY image_uri, frame_index) AS first FROM image
) WHERE place > first
"""
_FIND_CONTRADICTION = """
SELECT b.place, b.image_id, a.place
FROM repeat JOIN image AS a ON a.place = first JOIN image AS b ON b.place = repeat.place
WHERE (a.mask_uri, a."group", a.frame, a.split) IS NOT (b.mask_uri, b."group", b.frame, b.split)
ORDER BY b.place LIMIT 1
"""
_ROWS = """
SELECT image_id, image_uri, image_etag, image_bytes, mask_uri, mask_etag, mask_bytes, frame_index,
  "group", frame, {split}
FROM image ORDER BY place
"""

_T = TypeVar("_T")


@dataclass(slots=True)
class Examples:
    """How many objects there are of a kind, and the URIs of a few, the first ones by name."""

    count: int = 0
    uris: list[str] = field(default_factory=list)

    def add(self, uri: str) -> None:
        """Count an object."""
        self.update(Examples(1, [uri]))

    def update(self, others: "Examples") -> None:
        """Count others as well."""
        self.count += others.count
        self.uris = sorted(self.uris + others.uris)[:_EXAMPLES]


class MaskKind(NamedTuple):
    """What a layout knows of its masks: whether they hold colours, and the presets that read them."""

    colours: bool
    presets: tuple[str, ...]


class Listing:
    """Rows in plan order, and counts of what is not among them. A context manager: leaving it deletes the file.

    Every method raises StorageError when the disk of the temporary folder is full.
    """

    def __init__(self) -> None:
        self.num_rows = 0
        self.num_paired = 0
        """Masks that belong to an image."""
        self.skipped = Examples()
        self.unlabelled = Examples()
        """Images that were left out because they have no mask."""
        self.num_repeats = 0
        """Images that came again and were left out."""
        self.mask_kind: MaskKind | None = None
        """Told by a layout that knows it."""
        self.splits: dict[str, Any] = {}
        """What `assign_splits` found: its settings, rows and groups of each split, and groups in several splits."""
        self._folders = 0
        self._split = "split"
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.executescript(_FILE.format(folder=tempfile.gettempdir().replace("'", "''")))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()

    def rows(self) -> Iterator[Row]:
        """Yield the rows in plan order; can be called again."""
        with _disk_faults():
            for values in self._db.execute(_ROWS.format(split=self._split)):
                yield dict(zip(_COLUMNS, values, strict=True))

    def summary(self) -> dict[str, Any]:
        """Return the counts as JSON values, with the URIs of a few examples."""
        with _disk_faults():
            left = "FROM mask WHERE NOT is_paired"
            [(num_unpaired,)] = self._db.execute(f"SELECT count(*) {left}")
            unpaired = [uri for (uri,) in self._db.execute(f"SELECT uri {left} ORDER BY uri LIMIT {_EXAMPLES}")]
        return {
            "images": self.num_rows,
            "repeated_images": self.num_repeats,
            "skipped_objects": self.skipped.count,
            "skipped_examples": self.skipped.uris,
            "unpaired_masks": num_unpaired,
            "unpaired_examples": unpaired,
            "images_without_mask": self.unlabelled.count,
            "without_mask_examples": self.unlabelled.uris,
        }

    def add_folder(
        self,
        images: Iterable[ObjectInfo],
        masks: Iterable[ObjectInfo],
        *,
        image_suffix: str = "",
        mask_suffix: str = "",
        prefix: str = "",
        split: str | Callable[[str], str] = "",
        parse: Callable[[str], tuple[str, int | None]] = parse_frame,
    ) -> int:
        """Add the images of a folder, in natural order and after those of earlier folders; return how many.

        Each gets the mask of its name, whatever their endings. Of two masks of one image the PNG is taken, and of
        two PNGs the last by name. An image that comes twice is one row.

        Args:
            images: The images, in any order.
            masks: Their masks, in any order; they are read first.
            image_suffix: What an image's stem has after the name it shares with its mask; others are left out.
            mask_suffix: What a mask's stem has after that name; masks without it are left out.
            prefix: What to put before each key to make the image_id.
            split: Split of every row, or what tells it from a key, where the folder decides it.
            parse: What tells the group and the frame number from a key without its image_suffix.

        Raises:
            DatasetError: Two images have the same mask.
        """
        paired_before, before, folder = self.num_paired, self.num_rows, self._folders.to_bytes(1, "big")
        self._folders += 1
        with _disk_faults():
            for found in _chunks(masks):
                self._db.executemany(_ADD_MASK, _mask_values(found, prefix, mask_suffix))
            for chunk in _chunks(images):
                rows = [
                    (folder + natural_key(item.key), *_image_values(item, name, prefix, split, parse))
                    for item in chunk
                    if (name := _name(item.key, image_suffix)) is not None
                ]
                added = self._db.executemany(_ADD_IMAGE, rows).rowcount
                self.num_rows += added
                self.num_repeats += len(rows) - added
                self.num_paired += self._db.executemany(_PAIR_MASK, (row[-1:] for row in rows)).rowcount
            [(num_with_mask,)] = self._db.execute("SELECT count(mask_uri) FROM image WHERE place >= ?", (folder,))
            if num_with_mask > self.num_paired - paired_before:
                for one, other, mask in self._db.execute(_FIND_SHARED_MASK):
                    raise DatasetError(f"{one} and {other} have one mask, {mask}; keep one of them, or rename it")
        return self.num_rows - before

    def pair_with_themselves(self) -> None:
        """Make each image its own mask: both are halves of one file."""
        with _disk_faults():
            self._db.execute(_PAIR_WITH_ITSELF)

    def drop_unlabelled(self) -> None:
        """Drop the images without a mask, and count them."""
        with _disk_faults():
            first = [
                uri for (uri,) in self._db.execute(f"SELECT image_uri {_UNLABELLED} ORDER BY place LIMIT {_EXAMPLES}")
            ]
            self.unlabelled = Examples(self._db.execute(f"DELETE {_UNLABELLED}").rowcount, first)
        self.num_rows -= self.unlabelled.count

    def add_list(self, rows: Iterable[Row], uri: str) -> None:
        """Add the rows of a list, in its order and once per listing. An image that comes again is dropped and counted.

        Raises:
            DatasetError: An image comes again with another mask, group, frame or split; ``uri`` names the list.
        """
        numbered = (_WITHOUT_FACTS | row | {"place": number} for number, row in enumerate(rows, start=1))
        with _disk_faults():
            for chunk in _chunks(numbered):
                self.num_rows += self._db.executemany(_ADD_ROW, chunk).rowcount
            self._db.execute(_FIND_REPEATS)
            for place, image_id, first in self._db.execute(_FIND_CONTRADICTION):
                raise DatasetError(
                    f"{uri}: row {place}: {image_id} is also in row {first}, with another mask, group, frame or split; "
                    "keep one of them"
                )
            self.num_repeats = self._db.execute("DELETE FROM image WHERE place IN (SELECT place FROM repeat)").rowcount
        self.num_rows -= self.num_repeats

    def assign_groups(self, pattern: str) -> None:
        """Give every row the group that a regular expression finds in its image_id: the first one of the expression.

        Raises:
            DatasetError: It finds none in some image_id.
        """
        search = re.compile(pattern).search

        def group_of(image_id: str) -> str | None:
            found = search(image_id)
            return found and found[1]

        self._db.create_function("group_of", 1, group_of, deterministic=True)
        with _disk_faults():
            self._db.execute('UPDATE image SET "group" = group_of(image_id)')
            for (image_id,) in self._db.execute('SELECT image_id FROM image WHERE "group" IS NULL LIMIT 1'):
                raise DatasetError(
                    f"data.group_pattern: {pattern} finds no group in {image_id}; it must find one in every image_id"
                )

    def assign_splits(self, data: DataSection, seed: int) -> None:
        """Give every row its split (`splits.make_rule`), and count them.

        Raises:
            DatasetError: A list has a split of another name or none, or there are too few groups or images.
        """
        with _disk_faults():
            self._split = make_rule(self._db, data, seed)
            self.splits = {"settings": split_settings(data, seed), **count_splits(self._db, self._split)}


def _mask_values(masks: Iterable[ObjectInfo], prefix: str, suffix: str) -> Iterator[tuple[Any, ...]]:
    for mask in masks:
        name = _name(mask.key, suffix)
        if name is not None:
            yield prefix + name, mask.key.lower().endswith(".png"), mask.uri, mask.etag, mask.size_bytes


def _image_values(
    image: ObjectInfo,
    name: str,
    prefix: str,
    split: str | Callable[[str], str],
    parse: Callable[[str], tuple[str, int | None]],
) -> tuple[Any, ...]:
    group, frame = parse(f"{name}.{image.key.rpartition('.')[2]}")
    split = split if isinstance(split, str) else split(image.key)
    return prefix + image.key, image.uri, image.etag, image.size_bytes, group, frame, split, prefix + name


def _name(key: str, suffix: str) -> str | None:
    """Return what the name of a file shares with that of its image or mask; None when it lacks the suffix."""
    stem = stem_of(key)
    return stem.removesuffix(suffix) if stem.endswith(suffix) else None


def _chunks(items: Iterable[_T]) -> Iterator[Sequence[_T]]:
    source = iter(items)
    while chunk := list(islice(source, _ROWS_AT_ONCE)):
        yield chunk


@contextmanager
def _disk_faults() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        if not error.sqlite_errorname.startswith(("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN")):
            raise
        folder = tempfile.gettempdir()
        raise StorageError(
            f"could not keep the listing in a temporary file: {error}; {shutil.disk_usage(folder).free:,} bytes are "
            f"free in {folder}; make room, or set TMPDIR to a folder on another disk"
        ) from None
