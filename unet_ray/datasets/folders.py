"""What lies under the root of an input, and what to say when it is not what the layout promises."""

from itertools import islice

from unet_ray import storage
from unet_ray.errors import DatasetError, NotFoundError

_SIGNS = {
    "leftImg8bit": "cityscapes",
    "JPEGImages": "voc",
    "CameraRGB": "carla",
    "trainannot": "camvid",
    "train_labels": "camvid",
    "LabeledApproved_full": "camvid",
}
"""Names of folders that tell a layout."""

_LOOKED_AT = 20_000
_NAMED = 6


def holds(uri: str) -> bool:
    """Tell whether anything lies under a folder or prefix, at the price of one request."""
    try:
        return next(storage.list_objects(uri), None) is not None
    except NotFoundError:
        return False


def wrong_layout(root: str, layout: str, needs: str) -> DatasetError:
    """Return the error for a root that is not laid out as promised: what was looked for, what is there, the fix.

    Only the first objects are looked at, so that a root of millions is answered soon.

    Args:
        root: URI of the input.
        layout: Its ``data.layout``.
        needs: What the layout needs under the root.
    """
    top: set[str] = set()
    signs: dict[str, str] = {}
    try:
        for item in islice(storage.list_objects(root), _LOOKED_AT):
            *folders, name = item.key.split("/")
            top.add(f"{folders[0]}/" if folders else name)
            for depth, folder in enumerate(folders):
                if folder in _SIGNS:
                    signs.setdefault(_SIGNS[folder], "/".join(folders[:depth]))
    except NotFoundError:
        return DatasetError(f"{root}: no such folder; check data.root")
    found = ", ".join(sorted(top)[:_NAMED]) or "nothing"
    if signs.get(layout):
        fix = f"point data.root at {root}/{signs[layout]}"
    elif others := sorted(set(signs) - {layout}):
        fix = f"this looks like data.layout: {others[0]}"
    else:
        fix = "check data.root"
    return DatasetError(f"{root}: not data.layout: {layout}, which needs {needs}; found {found}; {fix}")
