"""Image pairs: photo and coloured mask side by side in one file, ``train/1.jpg`` .. and ``val/1.jpg`` ..

The set is published with a copy of itself inside: ``cityscapes_data/cityscapes_data/train``. The outer one is taken.
"""

import functools
import logging
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

from unet_ray import storage
from unet_ray.config_input import DataSection
from unet_ray.datasets.inputs import add_folder
from unet_ray.datasets.listing import Listing
from unet_ray.datasets.names import is_image, parse_frame, stem_of
from unet_ray.datasets.splits import SPLITS
from unet_ray.errors import DatasetError, NotFoundError

logger = logging.getLogger(__name__)


# Pairs made of Cityscapes are numbered in the order of its file names: how many of each city, in that order.
_CITIES: Mapping[str, Mapping[str, int]] = {
    "train": {
        "aachen": 174, "bochum": 96, "bremen": 316, "cologne": 154, "darmstadt": 85, "dusseldorf": 221, "erfurt": 109,
        "hamburg": 248, "hanover": 196, "jena": 119, "krefeld": 99, "monchengladbach": 94, "strasbourg": 365,
        "stuttgart": 196, "tubingen": 144, "ulm": 95, "weimar": 142, "zurich": 122,
    },
    "val": {"frankfurt": 267, "lindau": 59, "munster": 174},
}  # fmt: skip


@dataclass(slots=True)
class _Found:
    """Images of a folder: how many, and the highest of their numbers."""

    images: int = 0
    highest: int = 0


def add_pairs(listing: Listing, root: str, data: DataSection) -> None:
    """Add the pairs of ``train``, ``val`` and ``test``, wherever these lie under ``root``, or those of ``root`` itself.

    The pairs made of Cityscapes have their city as group; others, what their names tell.

    Raises:
        DatasetError: There are no images, or there are some elsewhere, as where masks are files of their own.
    """
    folders = _find_images(root)
    trees = _find_trees(folders)
    top = min(trees, key=lambda parent: (bool(parent), parent.count("/"), parent), default=None)
    if top is None:
        _require_no_others(root, folders, {""})
        add_folder(listing, root, None)
    else:
        copies = [parent for parent, tree in trees.items() if parent != top and tree == trees[top]]
        _require_no_others(root, folders, {_join(parent, split) for parent in (top, *copies) for split in trees[top]})
        _add_tree(listing, root, top, trees[top])
        for copy in copies:
            repeats = sum(found.images for found in trees[copy].values())
            listing.num_repeats += repeats
            logger.warning("%s/%s holds the same pairs again: its %d images are left out", root, copy, repeats)
    listing.pair_with_themselves()


def _find_images(root: str) -> dict[str, _Found]:
    """Return what each folder under the root holds, by its key."""
    folders: dict[str, _Found] = {}
    try:
        for item in storage.list_objects(root):
            if is_image(item.key):
                folder, _, name = item.key.rpartition("/")
                found = folders.setdefault(folder, _Found())
                found.images += 1
                found.highest = max(found.highest, _number(stem_of(name)))
    except NotFoundError:
        raise DatasetError(f"{root}: no such folder; check data.root") from None
    return folders


def _find_trees(folders: Mapping[str, _Found]) -> dict[str, dict[str, _Found]]:
    """Return the folders called as splits, by the folder that they lie in."""
    trees: dict[str, dict[str, _Found]] = {}
    for folder, found in folders.items():
        parent, _, name = folder.rpartition("/")
        if name in SPLITS:
            trees.setdefault(parent, {})[name] = found
    return trees


def _require_no_others(root: str, folders: Mapping[str, _Found], taken: set[str]) -> None:
    strange = sorted(folders.keys() - taken)
    if strange:
        named = ", ".join(f"{folder or '.'}/" for folder in strange[:5])
        raise DatasetError(
            f"{root}: pairs lie in train/, val/ and test/, or all in data.root itself; images were found in {named} "
            "too; give the folder of the pairs as data.root"
        )


def _add_tree(listing: Listing, root: str, parent: str, tree: Mapping[str, _Found]) -> None:
    by_city = all(_holds_all(tree.get(split), cities) for split, cities in _CITIES.items())
    for split in SPLITS:
        if split in tree:
            folder = _join(parent, split)
            parse = functools.partial(_parse_city, _CITIES[split]) if by_city and split in _CITIES else parse_frame
            add_folder(listing, f"{root}/{folder}", None, prefix=f"{folder}/", split=split, parse=parse)


def _holds_all(found: _Found | None, cities: Mapping[str, int]) -> bool:
    """Tell whether a folder holds the numbers from 1 to that of the last pair of the last city."""
    return found is not None and found.images == found.highest == sum(cities.values())


def _parse_city(cities: Mapping[str, int], key: str) -> tuple[str, int]:
    number = _number(stem_of(key))
    return list(cities)[bisect_left(list(accumulate(cities.values())), number)], number


def _number(stem: str) -> int:
    """Return the number that a stem is; one beyond all numbers for another name."""
    return int(stem) if stem.isascii() and stem.isdigit() and len(stem) < 10 else 10**10


def _join(parent: str, name: str) -> str:
    return f"{parent}/{name}" if parent else name
