"""Decoded frames: from a prepared dataset, or from files; for validation, prediction and the report. Runs in tasks."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from unet_ray import storage
from unet_ray.config_input import ImagesSection
from unet_ray.datasets.prepared import read_pair
from unet_ray.datasets.video import read_video_frame
from unet_ray.errors import ChangedError, ImageError, NotFoundError
from unet_ray.images.decode import decode_image, decode_mask, decode_mask_colours, decode_plain
from unet_ray.images.encode import decode_stored_mask
from unet_ray.images.pages import take_page
from unet_ray.images.video import is_video
from unet_ray.labels.classes import ClassMap
from unet_ray.labels.recovery import Recovery
from unet_ray.schema import IDENTITY

FRAMES = pa.schema(
    [
        pa.field("row_id", pa.int64()),
        pa.field("image_id", pa.string()),
        pa.field("image_uri", pa.string()),
        pa.field("group", pa.string()),
        pa.field("frame", pa.int64()),
        pa.field("split", pa.string()),
        pa.field("error_code", pa.string()),
        pa.field("error_message", pa.string()),
        pa.field("height", pa.int32()),
        pa.field("width", pa.int32()),
        pa.field("image", pa.large_binary()),  # (H, W, 3) uint8 RGB rows
        pa.field("true_mask", pa.large_binary()),  # (H, W) uint8 class ids; null without truth
    ]
)
"""Decoded frames on their way to a prediction actor."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """A decoded pair: the image's file, whether it is plain (`decode.decode_image`), and the pixels of both.

    ``mask`` is ``(H, W)`` uint8 class ids, or as `fetch_stored` says; None where there is none. The frame of a video
    has no file of its own: ``data`` is empty.
    """

    data: bytes
    plain: bool
    image: NDArray[np.uint8]
    mask: NDArray[Any] | None


def load_frames(rows: Sequence[Mapping[str, Any]], *, classes: ClassMap, policy: ImagesSection) -> pa.Table:
    """Return planned rows (`schema.PLAN`) as `FRAMES`; a bad file gives a row with an error and no pixels."""
    return pa.Table.from_pylist([_load_frame(row, classes, policy) for row in rows], schema=FRAMES)


def view_frames(frames: pa.Table) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8] | None] | None]:
    """Return the pixels of `FRAMES` rows, as `read_frame` does, without copying; None for a frame that did not load."""
    views: list[tuple[NDArray[np.uint8], NDArray[np.uint8] | None] | None] = []
    columns = (frames["height"].to_pylist(), frames["width"].to_pylist(), frames["image"], frames["true_mask"])
    for height, width, image, mask in zip(*columns, strict=True):
        if height is None:
            views.append(None)
            continue
        truth = np.frombuffer(mask.as_buffer(), np.uint8).reshape(height, width) if mask.is_valid else None
        views.append((np.frombuffer(image.as_buffer(), np.uint8).reshape(height, width, 3), truth))
    return views


def read_frame(
    row: Mapping[str, Any], classes: ClassMap, policy: ImagesSection
) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """Return a planned frame as ``(H, W, 3)`` uint8 RGB and its ``(H, W)`` uint8 true mask, or None without truth.

    Raises:
        ImageError: As `fetch_pair`.
    """
    if row["part_uri"] is None:
        pair = fetch_pair(row, classes, policy)
        return pair.image, pair.mask
    data, png = read_pair(row["part_uri"], row["part_row"])
    image = decode_plain(data)
    return image, decode_stored_mask(png, image.shape[0], image.shape[1], "png")


def fetch_pair(row: Mapping[str, Any], classes: ClassMap, policy: ImagesSection) -> Pair:
    """Fetch, decode and check the files of a planned row.

    Raises:
        ImageError: A file is gone (missing_image, missing_mask), not the one that was planned (changed_image,
            changed_mask), unusable (see `images.decode` and `images.video`), or the mask does not fit:
            class_id_out_of_range, unknown_colour, mask_size_mismatch; missing_page: a volume has fewer pages.
    """
    stored = fetch_stored(row, functools.partial(_decode_mask, recovery=classes.recovery), policy)
    if stored.mask is None:
        return stored
    try:
        if stored.mask.ndim == 3 and classes.recovery.read == "ids":
            raise ImageError(
                "colour_mask", "half of a file is colours, not class ids; labels.scheme: colours reads them"
            )
        return replace(stored, mask=classes.recovery.to_class_ids(stored.mask))
    except ImageError as error:
        raise ImageError(error.code, f"mask {row['mask_uri']}: {error.message}") from None


def fetch_stored(
    row: Mapping[str, Any], decode: Callable[[bytes, ImagesSection], NDArray[Any]], policy: ImagesSection
) -> Pair:
    """Fetch, decode and check the files of a planned row, its mask as ``decode`` reads the file, without labels.

    The mask beside a photo in one file is ``(H, W, 3)`` uint8 RGB, and ``decode`` is not asked.

    Raises:
        ImageError: As `fetch_pair`, but for what the numbers of a mask mean.
    """
    if is_video(row["image_uri"]):
        data, image, plain = b"", read_video_frame(row, policy), False
        row = {**row, "frame_index": None}  # which is not its mask's
    else:
        if row.get("frame_index") is not None:
            policy = replace(policy, frames="first")  # a page that was planned stands before those that follow it
        data = fetch_file(row, "image", policy)
        image, plain = decode_image(data, policy)
    if row["mask_uri"] is None:
        return Pair(data=data, plain=plain, image=image, mask=None)
    if row["mask_uri"] == row["image_uri"]:
        image, mask = cut_pair(image, policy)
        plain = False
    else:
        try:
            mask = decode(fetch_file(row, "mask", policy), policy)
        except ImageError as error:
            raise ImageError(error.code, f"mask {row['mask_uri']}: {error.message}") from None
    if mask.shape[:2] != image.shape[:2]:
        sizes = f"image {image.shape[0]} x {image.shape[1]}, mask {mask.shape[0]} x {mask.shape[1]}"
        raise ImageError("mask_size_mismatch", f"{sizes} px (height x width)")
    return Pair(data=data, plain=plain, image=image, mask=mask)


def _load_frame(row: Mapping[str, Any], classes: ClassMap, policy: ImagesSection) -> dict[str, Any]:
    result = {name: row[name] for name in IDENTITY}
    try:
        image, mask = read_frame(row, classes, policy)
    except ImageError as error:
        return result | {"error_code": error.code, "error_message": error.message}
    return result | {
        "height": image.shape[0],
        "width": image.shape[1],
        "image": image.tobytes(),
        "true_mask": None if mask is None else mask.tobytes(),
    }


def cut_pair(pixels: NDArray[np.uint8], policy: ImagesSection) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Cut ``(H, W, 3)`` uint8 into a photo and the mask beside it, of the same size where the file is even.

    Raises:
        ImageError: too_narrow: there is nothing right of ``images.cut``.
    """
    width = pixels.shape[1]
    cut = policy.cut or width // 2
    if not 0 < cut < width:
        raise ImageError("too_narrow", f"{width} px wide, cut at {cut}: one half is empty (images.cut)")
    halves = (np.ascontiguousarray(pixels[:, :cut]), np.ascontiguousarray(pixels[:, cut:]))
    return halves if policy.photo == "left" else (halves[1], halves[0])


def _decode_mask(data: bytes, policy: ImagesSection, recovery: Recovery) -> NDArray[Any]:
    if recovery.read == "ids":
        return decode_mask(data, policy)
    return decode_mask_colours(data, policy, exact=recovery.needs_exact_pixels)


def fetch_file(row: Mapping[str, Any], what: Literal["image", "mask"], policy: ImagesSection) -> bytes:
    """Fetch a file of a planned row, or the page of a volume as a TIFF of its own.

    Raises:
        ImageError: too_large, missing_image, missing_mask, changed_image, changed_mask, missing_page.
    """
    size = row.get(f"{what}_bytes")
    if size is not None and size > policy.max_bytes:
        raise ImageError("too_large", f"{size} bytes, images.max_bytes is {policy.max_bytes}")
    uri, etag, page = row[f"{what}_uri"], row.get(f"{what}_etag"), row.get("frame_index")
    try:
        return storage.read_bytes(uri, etag=etag) if page is None else take_page(_read_volume(uri, etag), page)
    except NotFoundError as error:
        raise ImageError(f"missing_{what}", str(error)) from None
    except ChangedError as error:
        raise ImageError(f"changed_{what}", str(error)) from None


@functools.lru_cache(maxsize=2)
def _read_volume(uri: str, etag: str | None) -> bytes:
    """Read a volume once for the pages that follow each other; kept are that of the images and that of the masks."""
    return storage.read_bytes(uri, etag=etag)
