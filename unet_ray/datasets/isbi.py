"""Stacks of slices as the ISBI 2012 challenge shares them: folders of numbered images, or TIFF volumes."""

import functools
import io
from collections.abc import Iterator

from unet_ray import storage
from unet_ray.config_input import DataSection
from unet_ray.datasets.inputs import add_folder
from unet_ray.datasets.listing import Listing, Row
from unet_ray.datasets.names import is_image, parse_frame, stem_of
from unet_ray.errors import DatasetError, ImageError, NotFoundError
from unet_ray.faults import translated
from unet_ray.images.pages import count_pages
from unet_ray.storage import ObjectInfo

_IMAGES = ("image", "images", "imgs", "")
_LABELS = ("label", "labels", "masks")
_STACKS = ("train", "test")
_VOLUMES = ("train-volume", "train-labels", "test-volume")
_READ_BYTES = 65_536


def add_isbi(listing: Listing, root: str, data: DataSection) -> None:
    """Add the slices of ``train`` with their labels, and those of ``test``; each stack is a group and a split.

    A stack is a folder, ``train/image`` with ``train/label``, or a volume, ``train-volume.tif`` with
    ``train-labels.tif``: its page 12 is ``train-volume.tif#12``.

    Raises:
        DatasetError: There is neither, or a volume and its labels have not as many pages.
    """
    folders, volumes = _find_stacks(root)
    if {"train-volume", "train-labels"} <= volumes.keys():
        listing.add_list(_volume_rows(volumes), root)
        return
    if _first("train", _IMAGES[:-1], folders) is None or _first("train", _LABELS, folders) is None:
        found = ", ".join(f"{folder or '.'}/" for folder in sorted(folders)[:6]) or "no images"
        raise DatasetError(
            f"{root}: not laid out as ISBI 2012: needs train/image/ and train/label/, or train-volume.tif and "
            f"train-labels.tif; found {found}"
        )
    for stack in _STACKS:
        images, labels = _first(stack, _IMAGES, folders), _first(stack, _LABELS, folders)
        if images is not None:
            add_folder(
                listing, f"{root}/{images}", labels and f"{root}/{labels}",
                prefix=f"{images}/", split=stack, parse=functools.partial(_parse_slice, stack),
            )  # fmt: skip


def _find_stacks(root: str) -> tuple[set[str], dict[str, ObjectInfo]]:
    """Return the folders that hold images, and the volumes by their names."""
    folders: set[str] = set()
    volumes: dict[str, ObjectInfo] = {}
    try:
        for item in storage.list_objects(root):
            if is_image(item.key):
                folders.add(item.key.rpartition("/")[0])
            stem = stem_of(item.key)
            if stem in _VOLUMES and item.key.lower().endswith((".tif", ".tiff")):
                volumes[stem] = item
    except NotFoundError:
        raise DatasetError(f"{root}: no such folder; check data.root") from None
    return folders, volumes


def _first(stack: str, names: tuple[str, ...], folders: set[str]) -> str | None:
    return next((folder for name in names if (folder := f"{stack}/{name}".rstrip("/")) in folders), None)


def _parse_slice(stack: str, key: str) -> tuple[str, int | None]:
    return stack, parse_frame(key)[1]


def _volume_rows(volumes: dict[str, ObjectInfo]) -> Iterator[Row]:
    for stack in _STACKS:
        images, labels = volumes.get(f"{stack}-volume"), volumes.get(f"{stack}-labels")
        if images is None:
            continue
        num_pages = _count_pages(images.uri)
        if labels is not None and (others := _count_pages(labels.uri)) != num_pages:
            raise DatasetError(
                f"{images.uri} has {num_pages} pages and {labels.uri} has {others}; the mask of an image is the same "
                "page of both"
            )
        for page in range(num_pages):
            yield {
                "image_id": f"{images.key}#{page}",
                "image_uri": images.uri,
                "image_etag": images.etag,
                "image_bytes": images.size_bytes,
                "mask_uri": labels and labels.uri,
                "mask_etag": labels and labels.etag,
                "mask_bytes": labels and labels.size_bytes,
                "frame_index": page,
                "group": stack,
                "frame": page,
                "split": stack,
            }


def _count_pages(uri: str) -> int:
    """Return the number of pages of a volume, without reading its pixels."""
    filesystem, path = storage.arrow_filesystem(uri)
    try:
        with (
            translated("read", uri),
            filesystem.open_input_file(path) as file,
            io.BufferedReader(file, _READ_BYTES) as buffered,
        ):
            return count_pages(buffered)
    except ImageError as error:
        raise DatasetError(f"{uri}: {error.message}; save the volume again as a multi-page TIFF") from None
