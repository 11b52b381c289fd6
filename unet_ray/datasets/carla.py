"""CARLA: folders CameraRGB/ with CameraSeg/ or CameraMask/ beside them (labels/presets.py has the classes)."""

from collections.abc import Iterator
from dataclasses import replace

from unet_ray.config_input import DataSection
from unet_ray.datasets.folders import wrong_layout
from unet_ray.datasets.inputs import images_under
from unet_ray.datasets.listing import Examples, Listing
from unet_ray.datasets.names import parse_frame
from unet_ray.datasets.splits import SPLITS
from unet_ray.errors import DatasetError
from unet_ray.storage import ObjectInfo

_PHOTOS = "CameraRGB"
_MASKS = ("CameraSeg", "CameraMask")


def add_carla(listing: Listing, root: str, data: DataSection) -> None:
    """Add what lies in every folder called CameraRGB; its mask has the same name in the folder beside it.

    The group is what stands before the frame number, ``02_00`` of ``02_00_000.png``, or else the folder that
    CameraRGB lies in. A folder above it called train, val or test, however written, is the split.

    Raises:
        DatasetError: There is no such folder, or there are masks but none for the photos.
    """
    masks = () if data.masks is None else _masks_under(root)
    others = Examples()
    num_images = listing.add_folder(_photos_under(root, others), masks, split=_split, parse=_parse)
    if not num_images:
        raise wrong_layout(root, "carla", f"images in {_PHOTOS}/ with {' or '.join(_MASKS)} beside it")
    if not listing.num_paired and (num_masks := listing.summary()["unpaired_masks"]):
        raise DatasetError(
            f"{root}: 0 of {num_images} images in {_PHOTOS}/ have one of the {num_masks} masks in "
            f"{' or '.join(_MASKS)} beside it; a mask needs the name of its image"
        )
    listing.skipped.update(others)


def _photos_under(root: str, others: Examples) -> Iterator[ObjectInfo]:
    return (item for item in images_under(root, others) if _place(item.key)[1] == _PHOTOS)


def _masks_under(root: str) -> Iterator[ObjectInfo]:
    """Yield the masks under the keys of their images."""
    for item in images_under(root, Examples()):
        part, camera, name = _place(item.key)
        if camera in _MASKS:
            yield replace(item, key=f"{part}/{_PHOTOS}/{name}".removeprefix("/"))


def _parse(key: str) -> tuple[str, int | None]:
    part, _, name = _place(key)
    sequence, frame = parse_frame(name)
    return sequence or part, frame


def _split(key: str) -> str:
    folders = _place(key)[0].lower().split("/")
    return next((folder for folder in folders if folder in SPLITS), "")


def _place(key: str) -> tuple[str, str, str]:
    """Return the folder of a camera's folder, the name of that, and the name of the file."""
    folder, _, name = key.rpartition("/")
    part, _, camera = folder.rpartition("/")
    return part, camera, name
