"""What lies under the root of an input, and what to say when it is not what the layout promises."""

from itertools import islice

from unet_ray import storage
from unet_ray.errors import DatasetError, NotFoundError

_LOOKED_AT = 20_000
_NAMED = 6


def holds(uri: str) -> bool:
    """Tell whether anything lies under a folder or prefix, at the price of one request."""
    try:
        return next(storage.list_objects(uri), None) is not None
    except NotFoundError:
        return False


def wrong_layout(root: str, layout: str, needs: str, *signs: str) -> DatasetError:
    """Return the error for a root that is not laid out as promised: what was looked for, what is there, the fix.

    Only the first objects are looked at, so that a root of millions is answered soon.

    Args:
        root: URI of the input.
        layout: Its ``data.layout``.
        needs: What the layout needs under the root.
        signs: Names of folders; where one is found deeper, the root should have been the folder that holds it.
    """
    top, deeper = set[str](), set[str]()
    try:
        for item in islice(storage.list_objects(root), _LOOKED_AT):
            *folders, name = item.key.split("/")
            top.add(f"{folders[0]}/" if folders else name)
            deeper.update(
                "/".join(folders[:depth]) for depth, folder in enumerate(folders) if depth and folder in signs
            )
    except NotFoundError:
        return DatasetError(f"{root}: no such folder; check data.root")
    found = ", ".join(sorted(top)[:_NAMED]) or "nothing"
    fix = f"point data.root at {root}/{min(deeper)}" if deeper else "check data.root"
    return DatasetError(f"{root}: not data.layout: {layout}, which needs {needs}; found {found}; {fix}")
