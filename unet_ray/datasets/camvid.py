"""CamVid: SegNet's copy with eleven class ids, and the original with 32 colours (labels/presets.py has both)."""

import functools
from pathlib import PurePosixPath

from unet_ray.config_input import DataSection
from unet_ray.datasets.folders import holds, wrong_layout
from unet_ray.datasets.inputs import add_folder
from unet_ray.datasets.listing import Listing, MaskKind, Row
from unet_ray.datasets.names import parse_frame
from unet_ray.datasets.split_lists import add_split_lists
from unet_ray.datasets.splits import SPLITS

_IDS = MaskKind(colours=False, presets=("camvid_11",))
_COLOURS = MaskKind(colours=True, presets=("camvid_32", "camvid_32_to_11"))
_STILLS = "701_StillsRaw_full"
_COLOUR_SUFFIX = "_L"


def add_camvid(listing: Listing, root: str, data: DataSection) -> None:
    """Add the frames under ``root``; groups and frames come from names such as ``0001TP_006690``.

    SegNet's copy has ``train/``, ``trainannot/`` and so on, and may have the lists ``train.txt``, ``val.txt`` and
    ``test.txt``, which then say what belongs to a split. The original in colours is split (``train/``,
    ``train_labels/``) or is not (``701_StillsRaw_full/``, ``LabeledApproved_full/``); its masks end in ``_L``.

    Raises:
        DatasetError: None of these folders is there, or a list has an entry that cannot be read.
    """
    if holds(f"{root}/train") and holds(f"{root}/trainannot"):
        listing.mask_kind = _IDS
        if not add_split_lists(listing, root, functools.partial(_listed_pair, root)):
            _add_splits(listing, root, "annot", data.mask_suffix)
    elif holds(f"{root}/train") and holds(f"{root}/train_labels"):
        listing.mask_kind = _COLOURS
        _add_splits(listing, root, "_labels", data.mask_suffix or _COLOUR_SUFFIX)
    elif holds(f"{root}/{_STILLS}") and holds(f"{root}/LabeledApproved_full"):
        listing.mask_kind = _COLOURS
        suffix = data.mask_suffix or _COLOUR_SUFFIX
        add_folder(
            listing, f"{root}/{_STILLS}", f"{root}/LabeledApproved_full", mask_suffix=suffix, prefix=f"{_STILLS}/"
        )
    else:
        needs = f"train/ with trainannot/ or train_labels/, or {_STILLS}/ with LabeledApproved_full/"
        raise wrong_layout(root, "camvid", needs, "trainannot", "train_labels", "LabeledApproved_full")


def _add_splits(listing: Listing, root: str, ending: str, mask_suffix: str) -> None:
    for split in SPLITS:
        if holds(f"{root}/{split}"):
            masks = f"{root}/{split}{ending}"
            add_folder(
                listing, f"{root}/{split}", masks if holds(masks) else None,
                mask_suffix=mask_suffix, prefix=f"{split}/", split=split,
            )  # fmt: skip


def _listed_pair(root: str, entry: str) -> Row:
    """Return the row of ``/SegNet/CamVid/train/X.png /SegNet/CamVid/trainannot/X.png``, wherever that once was."""
    files = [PurePosixPath(*PurePosixPath(word).parts[-2:]) for word in entry.split()]
    if len(files) != 2 or not all(map(_is_in_a_folder, files)):
        raise ValueError(f"needs an image and a mask, such as train/X.png trainannot/X.png, got {entry!r}")
    image, mask = files
    group, frame = parse_frame(image.name)
    return {
        "image_id": str(image),
        "image_uri": f"{root}/{image}",
        "mask_uri": f"{root}/{mask}",
        "group": group,
        "frame": frame,
    }


def _is_in_a_folder(file: PurePosixPath) -> bool:
    return len(file.parts) == 2 and file.parts[0] not in ("/", "..") and file.name != ".." and str(file).isprintable()
