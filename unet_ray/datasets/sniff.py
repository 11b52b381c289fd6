"""Which layout a folder looks like, for a message: by the names in its first few folders."""

import os
import re
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import islice, repeat

from unet_ray import s3, storage
from unet_ray.errors import StorageError
from unet_ray.faults import translated

_MOST_FOLDERS = 32
_MOST_NAMES = 1000  # what a store gives in one answer
_MOST_KEPT = 64  # names of one folder
_MOST_BRANCHES = 16

_VIDEO = r"[^/]+\.(mp4|avi|mkv|mov)"
_LIST = r"[^/]+\.(csv|parquet)"

# What must be there beside each other, by regular expressions; the first layout that has all of one line is taken.
_SIGNS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "cityscapes": ((r"leftImg8bit/",), (r".+_leftImg8bit\.png",)),
    "voc": ((r"JPEGImages/", r"SegmentationClass(Aug)?/"),),
    "carla": ((r"CameraRGB/", r"Camera(Seg|Mask)/"),),
    "camvid": ((r"train/", r"trainannot/"), (r"train/", r"train_labels/"), (r"class_dict\.csv", r".+_L\.png")),
    "isbi": (
        (r"train/(image|images|imgs)/", r"train/(label|labels|masks)/"),
        (r"train-volume\.tiff?", r"train-labels\.tiff?"),
    ),
    "pairs": ((r"train/\d+\.jpe?g", r"val/\d+\.jpe?g"),),
    "folder": ((r"images/", r"masks/"),),
    "video": ((_VIDEO,),),
    "list": ((_LIST,),),
}


def looks_like(root: str) -> str | None:
    """Return the name of the layout that a folder, or a folder in it, looks like; None when it is none we know.

    At most 32 folders are looked into, the upper ones first, and none that cannot be read.
    """
    for layout, pattern in (("video", _VIDEO), ("list", _LIST)):
        if re.fullmatch(pattern, storage.name(root), re.IGNORECASE):
            return layout
    try:
        names = _walk(root)
    except StorageError:
        return None
    for layout, signs in _SIGNS.items():
        if any(_holds(sign, keys) for keys in map(_inside, names, repeat(names)) for sign in signs):
            return layout
    return None


def _holds(sign: tuple[str, ...], keys: Sequence[str]) -> bool:
    return all(any(re.fullmatch(pattern, key) for key in keys) for pattern in sign)


def _inside(folder: str, names: Mapping[str, list[str]]) -> list[str]:
    """Return the names in a folder, and those in its folders behind theirs."""
    below = (f"{name}{inner}" for name in names[folder] for inner in names.get(f"{folder}{name}", ()))
    return [*names[folder], *below]


def _walk(root: str) -> dict[str, list[str]]:
    """Return the names in the upper folders, by the key of the folder; those of folders end with a slash."""
    names: dict[str, list[str]] = {}
    pending = deque([""])
    while pending and len(names) < _MOST_FOLDERS:
        folder = pending.popleft()
        found = sorted(_names_in(f"{root}/{folder}"))
        folders = [name for name in found if name.endswith("/")][:_MOST_KEPT]
        names[folder] = folders + [name for name in found if not name.endswith("/")][:_MOST_KEPT]
        pending.extend(folder + name for name in folders[:_MOST_BRANCHES])
    return names


def _names_in(uri: str) -> list[str]:
    """Return names directly in a folder, not all where there are very many."""
    with translated("list", uri):
        if not storage.is_remote(uri):
            with os.scandir(storage.absolute(uri)) as entries:
                return [entry.name + "/" * entry.is_dir() for entry in islice(entries, _MOST_NAMES)]
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        page = s3.s3fs_client().call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, Delimiter="/")
        keys = [found["Key"] for found in page.get("Contents", ())]
        keys += [found["Prefix"] for found in page.get("CommonPrefixes", ())]
        return [key.removeprefix(prefix) for key in keys if key != prefix]
