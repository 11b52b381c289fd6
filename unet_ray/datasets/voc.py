"""PASCAL VOC: JPEGImages/, SegmentationClass/ and the lists of ImageSets/ (labels/presets.py has its classes)."""

from unet_ray import storage
from unet_ray.config_input import DataSection
from unet_ray.datasets.folders import holds, wrong_layout
from unet_ray.datasets.inputs import add_folder
from unet_ray.datasets.listing import Listing, Row
from unet_ray.datasets.split_lists import add_split_lists
from unet_ray.errors import DatasetError, NotFoundError

_PHOTOS = "JPEGImages"
_MASKS = "SegmentationClass"


def add_voc(listing: Listing, root: str, data: DataSection) -> None:
    """Add the photos that the lists name; they are single photos, so they have no group and no frame.

    ``root`` is VOC2012 or any folder above it. ``data.masks`` may be ``SegmentationClassAug``; the lists are those of
    ``ImageSets/Segmentation``, or then of ``ImageSets/SegmentationAug``. Without lists all photos with a mask are
    added, for ``data.split`` to split.

    Raises:
        DatasetError: There are no photos, several kits of them, no masks, or a list has an entry that is no id.
    """
    kit = _find_kit(root)
    masks = _MASKS if data.masks == DataSection.masks else data.masks
    if masks is not None and not holds(f"{root}/{kit}{masks}"):
        raise DatasetError(
            f"{root}/{kit}{masks}: no masks there; data.masks takes {_MASKS}, {_MASKS}Aug, or null for photos without "
            "truth"
        )

    def pair_of(image_id: str) -> Row:
        if "/" in image_id or ".." in image_id or " " in image_id or not image_id.isprintable():
            raise ValueError(f"needs the id of a photo, such as 2007_000032, got {image_id!r}")
        key = f"{kit}{_PHOTOS}/{image_id}.jpg"
        mask_uri = f"{root}/{kit}{masks}/{image_id}.png" if masks is not None else None
        return {"image_id": key, "image_uri": f"{root}/{key}", "mask_uri": mask_uri, "group": "", "frame": None}

    lists = (masks or _MASKS).replace("Class", "")
    if add_split_lists(listing, f"{root}/{kit}ImageSets/{lists}", pair_of):
        return
    masks_uri = None if masks is None else f"{root}/{kit}{masks}"
    add_folder(listing, f"{root}/{kit}{_PHOTOS}", masks_uri, prefix=f"{kit}{_PHOTOS}/", parse=lambda key: ("", None))
    if masks is not None:
        listing.drop_unlabelled()


def _find_kit(root: str) -> str:
    """Return what keys of the only kit under ``root`` start with: nothing, or such as ``VOCdevkit/VOC2012/``."""
    if holds(f"{root}/{_PHOTOS}"):
        return ""
    try:
        parts = (item.key.partition(f"/{_PHOTOS}/") for item in storage.list_objects(root))
        kits = {f"{kit}/" for kit, photos, _ in parts if photos}
    except NotFoundError:
        kits = set()
    if not kits:
        raise wrong_layout(root, "voc", f"{_PHOTOS}/ and {_MASKS}/")
    if len(kits) > 1:
        raise DatasetError(f"{root}: holds several kits, {', '.join(sorted(kits))}; point data.root at one of them")
    return kits.pop()
