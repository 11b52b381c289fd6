"""CamVid in the SegNet layout: train/, trainannot/ and so on (labels/presets.py has its classes)."""

from unet_ray import storage
from unet_ray.config_input import DataSection
from unet_ray.datasets.inputs import add_folder
from unet_ray.datasets.listing import Listing
from unet_ray.errors import DatasetError

_SPLITS = ("train", "val", "test")


def add_camvid(listing: Listing, root: str, data: DataSection) -> None:
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
