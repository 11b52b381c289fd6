"""The frames that one task exports: masks out of the parts of a table, and their photos where a format wants them."""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from unet_ray import storage
from unet_ray.config_input import ImagesSection
from unet_ray.datasets.frames import fetch_stored
from unet_ray.datasets.prepared import read_pair
from unet_ray.errors import ImageError
from unet_ray.faults import translated
from unet_ray.images.decode import decode_mask, decode_plain
from unet_ray.images.encode import decode_stored_mask, encode_image, encode_jpeg
from unet_ray.images.header import kind_of
from unet_ray.labels.classes import ClassMap
from unet_ray.schema import IDENTITY, OK
from unet_ray.table.plan import Plan

_COLUMNS = (
    *IDENTITY, "status", "pred_mask", "height", "width", "confusion", "expected_miou", "confidence_sum", "entropy_sum",
)  # fmt: skip
_JPEG_QUALITY = 95
_GROUPS_IN_HAND = 4  # row groups: units of a shard lie in parts in the order in which they were done


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """The predictions that are exported: their plan and classes, and how their photos were read."""

    plan: Plan
    classes: ClassMap
    policy: ImagesSection


@dataclass(frozen=True, kw_only=True, slots=True)
class Portion:
    """What one task exports: rows of some parts, all of them or those of some numbers, and perhaps of one group only.

    ``key`` names it: the number of its shard, or the first row_id of its group.
    """

    key: int
    parts: tuple[str, ...]
    row_ids: frozenset[int] | None
    group: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Photo:
    """A photo as it was segmented: ``(H, W, 3)`` uint8 RGB, and the PNG or JPEG it was read from if that is plain."""

    image: NDArray[np.uint8]
    stored: bytes | None

    def encode(self) -> tuple[bytes, str]:
        """Return a file that decodes to these pixels, the one there is or else a PNG; and its ending."""
        data = self.stored or encode_image(self.image)
        return data, "jpg" if kind_of(data) == "JPEG" else "png"

    def encode_jpeg(self) -> bytes:
        """Return a JPEG: the one there is, or else one that is nearly the same."""
        data, ending = self.encode()
        return data if ending == "jpg" else encode_jpeg(self.image, _JPEG_QUALITY)


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """A segmented row (`schema.PREDICTION`), and its mask: ``(H, W)`` uint8 class ids."""

    row: Mapping[str, Any]
    mask: NDArray[np.uint8]
    source: Source

    @property
    def name(self) -> str:
        """Name of its files, without an ending."""
        return f"{self.row['row_id']:09d}"

    def read_plan(self) -> dict[str, Any]:
        """Return its planned row (`schema.PLAN`)."""
        return self.source.plan.read_row(self.row["row_id"])

    def read_photo(self) -> Photo:
        """Return its photo.

        Raises:
            ImageError: As `fetch_stored`, and changed_image: the photo has another size than the mask.
        """
        planned = self.read_plan()
        if planned["part_uri"] is not None:
            stored, _ = read_pair(planned["part_uri"], planned["part_row"])
            photo = Photo(image=decode_plain(stored), stored=stored)
        else:
            alone = planned if planned["mask_uri"] == planned["image_uri"] else {**planned, "mask_uri": None}
            pair = fetch_stored(alone, decode_mask, self.source.policy)
            photo = Photo(image=pair.image, stored=pair.data if pair.plain else None)
        if photo.image.shape[:2] != self.mask.shape:
            raise ImageError("changed_image", f"{self.row['image_uri']} is not of the size that was segmented")
        return photo


def read_frames(portion: Portion, source: Source) -> Iterator[Frame | None]:
    """Yield the frames of a portion, None for a quarantined row; a few row groups are in memory at once.

    They come by row_id, those of a group by their number in it and behind them those without one.
    """
    cells = functools.lru_cache(maxsize=_GROUPS_IN_HAND)(_read_row_group)
    for place in sorted(_find(portion)):
        rows = cells(place.uri, place.row_group)
        (row,) = rows.slice(place.row, 1).to_pylist()
        if row["status"] != OK:
            yield None
            continue
        mask = decode_stored_mask(row["pred_mask"], row["height"], row["width"], source.plan.facts["mask_encoding"])
        yield Frame(row=row, mask=mask, source=source)


class _Place(NamedTuple):
    """Where a row lies, sorted by its order."""

    order: tuple[bool, int, int]
    uri: str
    row_group: int
    row: int


def _find(portion: Portion) -> Iterator[_Place]:
    for uri in portion.parts:
        with _opened(uri) as part:
            for number in range(part.num_row_groups):
                with translated("read", uri):
                    rows = part.read_row_group(number, columns=["row_id", "group", "frame"])
                columns = (rows[name].to_pylist() for name in ("row_id", "group", "frame"))
                for place, (row_id, group, frame) in enumerate(zip(*columns, strict=True)):
                    if portion.row_ids is not None and row_id not in portion.row_ids:
                        continue
                    if portion.group is None:
                        yield _Place((False, 0, row_id), uri, number, place)
                    elif portion.group == group:
                        yield _Place((frame is None, frame or 0, row_id), uri, number, place)


def _read_row_group(uri: str, number: int) -> pa.Table:
    with _opened(uri) as part, translated("read", uri):
        return part.read_row_group(number, columns=list(_COLUMNS))


def _opened(uri: str) -> pq.ParquetFile:
    filesystem, path = storage.arrow_filesystem(uri)
    with translated("read", uri):
        return pq.ParquetFile(path, filesystem=filesystem, page_checksum_verification=True)
