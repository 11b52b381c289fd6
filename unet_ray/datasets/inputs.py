"""What fills a listing: a folder of images with one of masks, or a list of pairs. Both are read as streams."""

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from unet_ray import storage
from unet_ray.datasets.listing import Examples, Listing, Row
from unet_ray.datasets.names import is_image, parse_frame, stem_of
from unet_ray.errors import DatasetError, NotFoundError
from unet_ray.faults import translated
from unet_ray.section import carries_secret
from unet_ray.storage import ObjectInfo

_COLUMNS = ("image", "mask", "split", "group", "frame")
_READ_BYTES = 4 * 2**20
_ROWS_AT_ONCE = 4096


def add_folder(
    listing: Listing,
    images_uri: str,
    masks_uri: str | None,
    *,
    image_suffix: str = "",
    mask_suffix: str = "",
    prefix: str = "",
    split: str | Callable[[str], str] = "",
    parse: Callable[[str], tuple[str, int | None]] = parse_frame,
) -> None:
    """Add a folder of images, and pair each with the mask of the same relative name in another folder.

    Endings may differ. An image without a mask keeps its row, with a null ``mask_uri``. Where two masks share a
    name the PNG is taken. One folder may lie in the other: what is in the inner one belongs to it alone. Both may be
    the same one, where a suffix tells images and masks apart; a name that has both is of the longer one.

    Args:
        listing: Where to add the rows.
        images_uri: Folder or prefix of the images, read at any depth.
        masks_uri: Folder of the masks, or None when there is no truth.
        image_suffix: What an image's stem has after the name it shares with its mask.
        mask_suffix: What a mask's stem has after that name.
        prefix: What to put before each key to make the image_id.
        split: Split of every row, or what tells it from a key, where the folder decides it.
        parse: What tells the group and the frame number from a key without its image_suffix.

    Raises:
        DatasetError: A folder is missing, holds no image, or holds no mask for any of the images; two images have the
            same mask; images and masks cannot be told apart.
    """
    others, paired_before = Examples(), listing.num_paired
    of_images = _Side(images_uri.rstrip("/"), image_suffix)
    of_masks = None if masks_uri is None else _Side(masks_uri.rstrip("/"), mask_suffix)
    if of_images == of_masks:
        raise DatasetError(
            f"{images_uri}: images and masks lie in one folder, where nothing tells them apart; set data.mask_suffix "
            "to what the names of masks have before their ending"
        )
    num_images = listing.add_folder(
        _images_of(of_images, of_masks, others),
        () if of_masks is None else _images_of(of_masks, of_images, Examples()),
        image_suffix=image_suffix,
        mask_suffix=mask_suffix,
        prefix=prefix,
        split=split,
        parse=parse,
    )
    if not num_images:
        found = f"{others.count} other objects, such as {others.uris[0]}" if others.count else "nothing"
        named = f" whose names end with {image_suffix!r} (data.image_suffix)" if image_suffix else ""
        raise DatasetError(f"0 images under {images_uri}: it holds {found}; PNG, JPEG and TIFF files{named} are read")
    if masks_uri is not None and listing.num_paired == paired_before:
        raise DatasetError(
            f"0 of {num_images} images under {images_uri} have a mask under {masks_uri}; check that folder, and "
            f"data.image_suffix and data.mask_suffix, which are {image_suffix!r} and {mask_suffix!r}"
        )
    listing.skipped.update(others)


def add_list(listing: Listing, uri: str) -> None:
    """Add a CSV or Parquet list: columns image, mask and optionally split, group, frame; relative to its folder.

    Rows keep the order of the list. An image that comes again is dropped and counted.

    Raises:
        DatasetError: The list is missing, empty, has a column we do not know, a row without image or with a frame
            that is no number, or an image twice with different masks, groups, frames or splits.
    """
    try:
        listing.add_list(_pair_rows(uri), uri)
    except NotFoundError:
        raise DatasetError(f"{uri}: no such list; data.root takes the URI of a CSV or Parquet file") from None
    if not listing.num_rows:
        raise DatasetError(f"{uri}: the list has no rows")


class _Side(NamedTuple):
    """Where the images, or the masks, lie, and what their stems end with."""

    uri: str
    suffix: str

    def holds(self, item: ObjectInfo, listed: "_Side") -> bool:
        """Tell whether what was listed for the other side is of this one."""
        if self.uri == listed.uri:
            stem, longer = stem_of(item.key), len(self.suffix) > len(listed.suffix)
            return stem.endswith(self.suffix) and (longer or not stem.endswith(listed.suffix))
        return self.uri.startswith(f"{listed.uri}/") and item.uri.startswith(f"{self.uri}/")


def images_under(uri: str, others: Examples) -> Iterator[ObjectInfo]:
    """Yield the images under a folder, and count the other objects."""
    try:
        for item in storage.list_objects(uri):
            if not is_image(item.key):
                others.add(item.uri)
                continue
            if not item.uri.isascii():
                _require_unicode(item)
            yield item
    except NotFoundError:
        raise DatasetError(f"{uri}: no such folder; check data.root, data.images and data.masks") from None


def _images_of(side: _Side, other: _Side | None, others: Examples) -> Iterator[ObjectInfo]:
    """Yield the images of a side, and count the objects that are of neither."""
    for item in images_under(side.uri, others):
        if other is not None and other.holds(item, side):
            continue
        if stem_of(item.key).endswith(side.suffix):
            yield item
        else:
            others.add(item.uri)


def _require_unicode(item: ObjectInfo) -> None:
    try:
        item.uri.encode()
    except UnicodeEncodeError:
        raise DatasetError(f"{item.uri!a}: the name is not UTF-8, so no table can hold it; rename the file") from None


def _pair_rows(uri: str) -> Iterator[Row]:
    folder = uri.rpartition("/")[0]
    for number, record in enumerate(_records(uri), start=1):
        try:
            row = _pair_row(folder, record)
        except ValueError as error:
            raise DatasetError(f"{uri}: row {number}: {error}; columns are {', '.join(_COLUMNS)}") from None
        yield row


def _records(uri: str) -> Iterator[Mapping[str, Any]]:
    try:
        with translated("read", uri):
            yield from (_parquet_records if uri.endswith(".parquet") else _csv_records)(uri)
    except (ValueError, csv.Error) as error:
        raise DatasetError(f"{uri}: not a readable CSV or Parquet list: {error}") from error


def _csv_records(uri: str) -> Iterator[Mapping[str, Any]]:
    with open_text(uri) as text:
        yield from csv.DictReader(text)


@contextmanager
def open_text(uri: str) -> Iterator[io.TextIOWrapper]:
    """Open a text in UTF-8, to be read as a stream; its lines keep their ends."""
    filesystem, path = storage.arrow_filesystem(uri)
    with (
        filesystem.open_input_stream(path, compression=None) as file,
        io.TextIOWrapper(io.BufferedReader(file, _READ_BYTES), "utf-8-sig", newline="") as text,
    ):
        yield text


def _parquet_records(uri: str) -> Iterator[Mapping[str, Any]]:
    filesystem, path = storage.arrow_filesystem(uri)
    with filesystem.open_input_file(path) as file, pq.ParquetFile(file, buffer_size=_READ_BYTES) as table:
        for batch in table.iter_batches(_ROWS_AT_ONCE):
            yield from batch.to_pylist()


def _pair_row(folder: str, record: Mapping[str, Any]) -> Row:
    def resolve(name: str) -> str:
        anchored = "://" in name or name.startswith("/") or not folder
        return name if anchored else f"{folder}/{name}"

    unknown = [name for name in record if name not in _COLUMNS]
    if unknown:
        raise ValueError(f"unknown column {unknown[0]!r}" if unknown[0] else "more cells than columns")
    cells = {name: value for name, value in record.items() if value not in (None, "")}
    image = cells.get("image")
    if not isinstance(image, str):
        raise ValueError("no image")
    if any(isinstance(cells.get(name), str) and carries_secret(cells[name]) for name in ("image", "mask")):
        raise ValueError(
            "a URI holds a password or a signature, which would be stored with the results; credentials come from the "
            "environment (AWS_*)"
        )
    group, frame = parse_frame(image)
    return {
        "image_id": image,
        "image_uri": resolve(image),
        "mask_uri": resolve(str(cells["mask"])) if "mask" in cells else None,
        "group": str(cells.get("group", group)),
        "frame": _whole_number(cells["frame"]) if "frame" in cells else frame,
        "split": str(cells.get("split", "")),
    }


def _whole_number(cell: Any) -> int:
    """Return a frame number; a column with gaps that pandas wrote holds ``12.0``."""
    match = re.fullmatch(r"(-?\d{1,18})(\.0*)?", str(cell))
    if match is None:
        raise ValueError(f"frame {cell!r} is not a whole number")
    return int(match[1])
