"""Cityscapes: leftImg8bit/ with gtFine/ or gtCoarse/ (labels/presets.py has its ids, classes and categories)."""

from collections.abc import Mapping
from pathlib import PurePosixPath

from unet_ray.config_input import DataSection
from unet_ray.datasets.folders import holds, wrong_layout
from unet_ray.datasets.inputs import add_folder
from unet_ray.datasets.listing import Listing, MaskKind
from unet_ray.datasets.names import parse_frame

_PHOTOS = "leftImg8bit"
_KINDS = ("gtFine", "gtCoarse")
_FOLDERS = {"train": "train", "train_extra": "train", "val": "val", "test": "test"}
"""Split of each folder."""

_BY_ID = ("cityscapes_34", "cityscapes_19", "cityscapes_8")
_MASK_KINDS: Mapping[str, MaskKind] = {
    "labelIds": MaskKind(colours=False, presets=_BY_ID),
    "labelTrainIds": MaskKind(colours=False, presets=("cityscapes_train_ids",)),
    "color": MaskKind(colours=True, presets=_BY_ID),
}


def add_cityscapes(listing: Listing, root: str, data: DataSection) -> None:
    """Add the splits under ``root/leftImg8bit``; the group is ``{city}_{seq}``, the frame the number after it.

    A split takes its masks from gtFine or, where that has none, from gtCoarse; without either its masks are null.
    ``data.mask_suffix`` says which masks: ``_labelIds`` when it is empty, ``_labelTrainIds`` or ``_color``; with
    ``_gtFine`` or ``_gtCoarse`` before that, only those are taken. The masks that come with the test split are
    dummies that hold no class: they are taken as they are, so score on val.

    Raises:
        DatasetError: There are no photos, or a split has masks but none for its photos.
    """
    kind, _, what = (data.mask_suffix or "_labelIds").removeprefix("_").rpartition("_")
    kinds = (kind,) if kind else _KINDS
    listing.mask_kind = _MASK_KINDS.get(what)
    folders = [folder for folder in _FOLDERS if holds(f"{root}/{_PHOTOS}/{folder}")]
    if not folders:
        raise wrong_layout(root, "cityscapes", f"{_PHOTOS}/train/, {_PHOTOS}/val/ and so on", _PHOTOS)
    for folder in folders:
        kind = next((kind for kind in kinds if holds(f"{root}/{kind}/{folder}")), "")
        add_folder(
            listing, f"{root}/{_PHOTOS}/{folder}", f"{root}/{kind}/{folder}" if kind else None,
            image_suffix=f"_{_PHOTOS}", mask_suffix=f"_{kind}_{what}",
            prefix=f"{_PHOTOS}/{folder}/", split=_FOLDERS[folder], parse=_parse,
        )  # fmt: skip


def _parse(key: str) -> tuple[str, int | None]:
    return parse_frame(PurePosixPath(key).name)
