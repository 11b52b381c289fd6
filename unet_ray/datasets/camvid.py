"""CamVid in the SegNet layout: train/, trainannot/ and so on, eleven classes and void.

Brostow, Fauqueur and Cipolla, "Semantic object classes in video" (Pattern Recognition Letters 2009); the eleven
classes, their order and colours as in the SegNet tutorial (Badrinarayanan, Kendall and Cipolla 2017).
"""

from unet_ray import storage
from unet_ray.datasets.inputs import add_folder
from unet_ray.datasets.listing import Listing
from unet_ray.errors import DatasetError

CLASSES = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist",
)  # fmt: skip
PALETTE = (
    (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0),
    (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192),
)  # fmt: skip
IGNORE_IDS = (11,)
"""Void."""

_SPLITS = ("train", "val", "test")


def add_camvid(listing: Listing, root: str) -> None:
    """Add the splits that lie under ``root``; groups and frames come from names such as ``0001TP_006690``.

    Raises:
        DatasetError: There is no ``train`` folder with a ``trainannot`` beside it.
    """
    folders = {item.key.partition("/")[0] for item in storage.list_objects(root)}
    if not {"train", "trainannot"} <= folders:
        found = ", ".join(sorted(folders)[:6]) or "nothing"
        raise DatasetError(f"{root}: not CamVid in the SegNet layout: needs train/ and trainannot/, found {found}")
    for split in _SPLITS:
        if split in folders:
            masks = f"{root}/{split}annot" if f"{split}annot" in folders else None
            add_folder(listing, f"{root}/{split}", masks, prefix=f"{split}/", split=split)
