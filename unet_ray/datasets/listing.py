"""A listing: the rows a layout found, what it left out, and the classes it brings along."""

import csv
import hashlib
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow.parquet as pq

from unet_ray import storage
from unet_ray.datasets.names import is_image, natural_key, parse_frame
from unet_ray.errors import DatasetError, NotFoundError
from unet_ray.storage import ObjectInfo

Row = dict[str, Any]
"""One planned image: the columns of `schema.PLAN` without row_id."""

_EXAMPLES = 5
_COLUMNS = ("image", "mask", "split", "group", "frame")


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Rows in natural order, and counts of what is not among them, with a few examples of each."""

    rows: list[Row]
    skipped_objects: list[str] = field(default_factory=list)
    unpaired_masks: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Return the counts and examples as JSON values."""
        return {
            "images": len(self.rows),
            "skipped_objects": len(self.skipped_objects),
            "skipped_examples": self.skipped_objects[:_EXAMPLES],
            "unpaired_masks": len(self.unpaired_masks),
            "unpaired_examples": self.unpaired_masks[:_EXAMPLES],
        }


def list_folder(
    images_uri: str, masks_uri: str | None, *, mask_suffix: str = "", prefix: str = "", split: str = ""
) -> Listing:
    """List a folder of images, and pair each with the mask of the same relative name in another folder.

    Endings may differ. An image without a mask keeps its row, with a null ``mask_uri``. Where two masks share a
    name the PNG is taken.

    Args:
        images_uri: Folder or prefix of the images, read at any depth.
        masks_uri: Folder of the masks, or None when there is no truth.
        mask_suffix: What a mask's stem has after its image's stem.
        prefix: What to put before each key to make the image_id.
        split: Split of every row, where the folder decides it.

    Raises:
        DatasetError: A folder is missing or holds no image.
    """
    images, skipped = _images_under(images_uri)
    if not images:
        found = f"{len(skipped)} other objects, such as {skipped[0]}" if skipped else "nothing"
        raise DatasetError(f"0 images under {images_uri}: it holds {found}; PNG, JPEG and TIFF files are read")
    masks: dict[str, ObjectInfo] = {}
    if masks_uri is not None:
        found_masks, _ = _images_under(masks_uri)
        for mask in sorted(found_masks, key=lambda item: item.key.lower().endswith(".png")):
            stem = mask.key.rpartition(".")[0]
            if stem.endswith(mask_suffix):
                masks[stem.removesuffix(mask_suffix)] = mask
    rows = [
        _make_row(prefix, split, image, masks.get(image.key.rpartition(".")[0]))
        for image in sorted(images, key=lambda item: natural_key(item.key))
    ]
    stems = {image.key.rpartition(".")[0] for image in images}
    unpaired = sorted(mask.key for stem, mask in masks.items() if stem not in stems)
    return Listing(rows=rows, skipped_objects=sorted(skipped), unpaired_masks=unpaired)


def list_pairs(uri: str) -> Listing:
    """Read a CSV or Parquet list: columns image, mask and optionally split, group, frame; relative to its folder.

    Raises:
        DatasetError: The list is missing, empty, has a column we do not know, or a row without image or with a frame
            that is no number.
    """
    try:
        data = storage.read_bytes(uri)
    except NotFoundError:
        raise DatasetError(f"{uri}: no such list; data.pairs takes the URI of a CSV or Parquet file") from None
    records: Iterable[Mapping[str, Any]]
    try:
        if uri.endswith(".parquet"):
            records = pq.read_table(io.BytesIO(data)).to_pylist()
        else:
            records = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline="")))
    except (ValueError, csv.Error) as error:
        raise DatasetError(f"{uri}: not a readable CSV or Parquet list: {error}") from error
    rows = []
    folder = uri.rpartition("/")[0]
    for number, record in enumerate(records, start=1):
        try:
            rows.append(_pair_row(folder, record))
        except ValueError as error:
            raise DatasetError(f"{uri}: row {number}: {error}; columns are {', '.join(_COLUMNS)}") from None
    if not rows:
        raise DatasetError(f"{uri}: the list has no rows")
    return Listing(rows=rows)


def assign_splits(rows: list[Row], how: str, seed: int, val_fraction: float, test_fraction: float) -> None:
    """Fill the split of rows in place, by a hash of image_id or by whole groups.

    By hash, an image keeps its split when others are added. By group, groups are ranked by a hash, and the first
    share of them (at least one, where the fraction is not 0) is taken, so that no group is in two splits.

    Raises:
        DatasetError: By group, with fewer groups than splits.
    """
    if how == "hash":
        for row in rows:
            position = _hash(seed, row["image_id"])
            row["split"] = _split_at(position, val_fraction, test_fraction)
        return
    groups = sorted({row["group"] for row in rows}, key=lambda group: _hash(seed, group))
    num_val = max(1, round(val_fraction * len(groups))) if val_fraction else 0
    num_test = max(1, round(test_fraction * len(groups))) if test_fraction else 0
    if num_val + num_test >= len(groups):
        raise DatasetError(
            f"data.split: group needs more groups than the {num_val + num_test} for val and test, "
            f"found {len(groups)} ({', '.join(groups[:5])}); use data.split: hash"
        )
    split_of = {
        group: "val" if rank < num_val else "test" if rank < num_val + num_test else "train"
        for rank, group in enumerate(groups)
    }
    for row in rows:
        row["split"] = split_of[row["group"]]


def _split_at(position: float, val_fraction: float, test_fraction: float) -> str:
    if position < val_fraction:
        return "val"
    return "test" if position < val_fraction + test_fraction else "train"


def _hash(seed: int, text: str) -> float:
    """Return a number in [0, 1) that depends on nothing but the arguments."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{text}".encode()).digest()[:8], "big") / 2**64


def _images_under(uri: str) -> tuple[list[ObjectInfo], list[str]]:
    images: list[ObjectInfo] = []
    skipped: list[str] = []
    try:
        for item in storage.list_objects(uri):
            if is_image(item.key):
                images.append(item)
            else:
                skipped.append(item.key)
    except NotFoundError:
        raise DatasetError(f"{uri}: no such folder; check data.root, data.images and data.masks") from None
    return images, skipped


def _make_row(prefix: str, split: str, image: ObjectInfo, mask: ObjectInfo | None) -> Row:
    group, frame = parse_frame(image.key)
    return {
        "image_id": f"{prefix}{image.key}",
        "image_uri": image.uri,
        "image_etag": image.etag,
        "image_bytes": image.size_bytes,
        "mask_uri": mask.uri if mask else None,
        "mask_etag": mask.etag if mask else None,
        "mask_bytes": mask.size_bytes if mask else None,
        "group": group,
        "frame": frame,
        "split": split,
    }


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
