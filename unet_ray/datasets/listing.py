"""A listing: the rows to plan, kept in a temporary file, so that memory does not grow with their number.

The file is an SQLite database without a name: it is gone when the listing is closed or its process ends. Rows lie in
it in plan order, and masks by the name of their image; both come nearly in that order from a store.
"""

import hashlib
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

from unet_ray.datasets.names import natural_key, parse_frame
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
CREATE TABLE group_split (name PRIMARY KEY, split) WITHOUT ROWID;
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
_DROP_MASKS = "DELETE FROM image WHERE EXISTS (SELECT 1 FROM mask WHERE is_paired AND stem = stem_of_mask(image_id))"
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
_SPLIT_GROUPS = """
INSERT INTO group_split
SELECT name, CASE WHEN rank <= ? THEN 'val' WHEN rank <= ? THEN 'test' ELSE 'train' END FROM (
  SELECT name, row_number() OVER (ORDER BY position(name), name) AS rank
  FROM (SELECT DISTINCT "group" AS name FROM image)
)
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
        self.mask_kind: MaskKind | None = None
        """Told by a layout that knows it."""
        self._repeats = 0
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
            "repeated_images": self._repeats,
            "skipped_objects": self.skipped.count,
            "skipped_examples": self.skipped.uris,
            "unpaired_masks": num_unpaired,
            "unpaired_examples": unpaired,
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
        """
        before, folder = self.num_rows, self._folders.to_bytes(1, "big")
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
                self._repeats += len(rows) - added
                self.num_paired += self._db.executemany(_PAIR_MASK, (row[-1:] for row in rows)).rowcount
        return self.num_rows - before

    def drop_masks(self, suffix: str) -> None:
        """Drop the images that are masks of other images beside them: their names plus a suffix, which is not empty."""

        def stem_of_mask(image_id: str) -> str | None:
            stem = _stem(image_id)
            return stem.removesuffix(suffix) if stem.endswith(suffix) else None

        self._db.create_function("stem_of_mask", 1, stem_of_mask, deterministic=True)
        with _disk_faults():
            self.num_rows -= self._db.execute(_DROP_MASKS).rowcount

    def drop_unlabelled(self) -> None:
        """Drop the images without a mask."""
        with _disk_faults():
            self.num_rows -= self._db.execute("DELETE FROM image WHERE mask_uri IS NULL").rowcount

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
            self._repeats = self._db.execute("DELETE FROM image WHERE place IN (SELECT place FROM repeat)").rowcount
        self.num_rows -= self._repeats

    def assign_splits(self, how: str, seed: int, val_fraction: float, test_fraction: float) -> None:
        """Give every row its split, by a hash of image_id or by whole groups.

        By hash, an image keeps its split when others are added. By group, groups are ranked by a hash, and the first
        share of them (at least one, where the fraction is not 0) is taken, so that no group is in two splits.

        Raises:
            DatasetError: By group, with fewer groups than splits.
        """
        if how == "hash":

            def split_of(image_id: str) -> str:
                return _split_at(_hash(seed, image_id), val_fraction, test_fraction)

            self._db.create_function("split_of", 1, split_of, deterministic=True)
            self._split = "split_of(image_id)"
            return
        self._db.create_function("position", 1, lambda name: _hash(seed, name), deterministic=True)
        self._split = '(SELECT split FROM group_split WHERE name = "group")'
        with _disk_faults():
            [(num_groups,)] = self._db.execute('SELECT count(DISTINCT "group") FROM image')
            num_val = max(1, round(val_fraction * num_groups)) if val_fraction else 0
            num_test = max(1, round(test_fraction * num_groups)) if test_fraction else 0
            if num_val + num_test >= num_groups:
                found = self._db.execute('SELECT DISTINCT "group" FROM image ORDER BY position("group") LIMIT 5')
                raise DatasetError(
                    f"data.split: group needs more groups than the {num_val + num_test} for val and test, "
                    f"found {num_groups} ({', '.join(name for (name,) in found)}); use data.split: hash"
                )
            self._db.execute(_SPLIT_GROUPS, (num_val, num_val + num_test))


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
    stem = _stem(key)
    return stem.removesuffix(suffix) if stem.endswith(suffix) else None


def _stem(key: str) -> str:
    return key.rpartition(".")[0]


def _chunks(items: Iterable[_T]) -> Iterator[Sequence[_T]]:
    source = iter(items)
    while chunk := list(islice(source, _ROWS_AT_ONCE)):
        yield chunk


def _split_at(position: float, val_fraction: float, test_fraction: float) -> str:
    if position < val_fraction:
        return "val"
    return "test" if position < val_fraction + test_fraction else "train"


def _hash(seed: int, text: str) -> float:
    """Return a number in [0, 1) that depends on nothing but the arguments."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{text}".encode()).digest()[:8], "big") / 2**64


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
