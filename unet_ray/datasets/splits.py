"""Which rows of a listing train, validate and test: a rule found in passes over them, never a list of rows.

Groups may be held out by their names. Otherwise, by ratio, group and contiguous, the units to split (images, or whole
groups) stand in a line, which is cut: those in front train, then come those that validate, then those for testing. The
line is shuffled by a hash, or is the order of the plan. All that is kept of it are the units where it is cut; a row is
told its split by where it stands to them.
"""

import hashlib
import sqlite3
from bisect import bisect_right
from collections import Counter
from itertools import groupby
from operator import itemgetter
from typing import Any

from unet_ray.config_input import DataSection
from unet_ray.errors import DatasetError

SPLITS = ("train", "val", "test")

_LINES = {
    "ratio": ("place_in_line(image_id), place", "image"),
    "group": ('place_in_line("group"), "group"', '(SELECT DISTINCT "group" FROM image)'),
    "contiguous": ("place, 0", "image"),
}
"""By what units are ordered, and where they are; no two units have the same place."""

_UNLISTED = """
SELECT image_id, split FROM image WHERE coalesce(split, '') NOT IN ('train', 'val', 'test') ORDER BY place LIMIT 1
"""
_COUNTS = 'SELECT "group", {rule}, count(*) FROM image GROUP BY 1, 2 ORDER BY 1, 2'
_EXAMPLES = 'SELECT DISTINCT "group" FROM image LIMIT 5'


def split_settings(data: DataSection, seed: int) -> dict[str, Any]:
    """Return the settings that decide the splits, by the key the user types; null where one does not matter."""
    is_drawn = data.split != "lists" and not data.has_named_groups
    return {
        "data.split": data.split,
        "data.group_pattern": data.group_pattern,
        "data.val_fraction": data.val_fraction if is_drawn and data.folds is None else None,
        "data.test_fraction": data.test_fraction if is_drawn else None,
        "data.val_groups": sorted({*data.val_groups}),
        "data.test_groups": sorted({*data.test_groups}),
        "data.folds": data.folds,
        "data.fold": data.fold,
        "run.seed": seed if is_drawn and data.split != "contiguous" else None,
    }


def make_rule(db: sqlite3.Connection, data: DataSection, seed: int) -> str:
    """Return the SQL expression of a row's split, with the functions it needs made in the database of a listing.

    An image keeps its hash split when others are added. Without folds, a ratio or contiguous split has
    ``round(fraction * n)`` images of n for each of val and test, which may be none; by group that many groups, but at
    least one where the fraction is not 0. With folds, the share for testing is the same for all of them, and the rest
    is cut in folds that differ by at most one image, or group.

    Raises:
        DatasetError: A list has a split of another name or none, there are fewer groups or images than needed, or no
            group of a name that was given.
    """
    if data.has_named_groups:
        return _name_groups(db, data)
    if data.split == "lists":
        for image_id, split in db.execute(_UNLISTED):
            raise DatasetError(
                f"data.split: lists needs train, val or test for every image, {image_id} has {split or 'none'!r}; "
                "give the list a split column, or use another data.split"
            )
        return "split"
    if data.split == "hash":

        def split_of_image(image_id: str) -> str:
            position = _hash(seed, image_id)
            if position < data.val_fraction:
                return "val"
            return "test" if position < data.val_fraction + data.test_fraction else "train"

        db.create_function("split_of", 1, split_of_image, deterministic=True)
        return "split_of(image_id)"
    unit, source = _LINES[data.split]
    # Those of the smallest hashes come last, where they validate or test.
    db.create_function("place_in_line", 1, lambda name: -_hash(seed, name), deterministic=True)
    [(total,)] = db.execute(f"SELECT count(*) FROM {source}")
    cuts = cut_line(total, data)
    if data.split == "group" and data.folds is None and cuts[0] <= 0 < data.val_fraction + data.test_fraction:
        raise DatasetError(
            f"data.split: group needs more groups than the {total - cuts[0]} for val and test, found {total} "
            f"({_group_names(db)}); use data.split: hash"
        )
    if data.folds is not None and cuts[2] < data.folds:
        units = f"groups ({_group_names(db)})" if data.split == "group" else "images"
        raise DatasetError(f"data.folds: {data.folds} folds of {cuts[2]} {units} would leave some empty; lower it")
    line = enumerate(db.execute(f"SELECT {unit} FROM {source} ORDER BY 1, 2"))
    firsts = [found for rank, found in line for cut in cuts if cut == rank]

    def split_of_unit(*found: Any) -> str:
        return ("train", "val", "train", "test")[bisect_right(firsts, found)]

    db.create_function("split_of", 2, split_of_unit, deterministic=True)
    return f"split_of({unit})"


def _name_groups(db: sqlite3.Connection, data: DataSection) -> str:
    for key, names in (("data.val_groups", data.val_groups), ("data.test_groups", data.test_groups)):
        for name in names:
            if not db.execute('SELECT 1 FROM image WHERE "group" = ? LIMIT 1', (name,)).fetchone():
                raise DatasetError(
                    f"{key}: no image is of group {name!r}, found {_group_names(db)}; correct it, or data.group_pattern"
                )
    held_out = dict.fromkeys(data.val_groups, "val") | dict.fromkeys(data.test_groups, "test")
    db.create_function("split_of", 1, lambda group: held_out.get(group, "train"), deterministic=True)
    return 'split_of("group")'


def cut_line(total: int, data: DataSection) -> tuple[int, int, int]:
    """Return the ranks in a line of units at which validating begins and ends, and at which testing begins."""
    least = 1 if data.split == "group" else 0
    num_test = max(least, round(data.test_fraction * total)) if data.test_fraction else 0
    rest = total - num_test
    if data.folds is not None:
        return rest * data.fold // data.folds, rest * (data.fold + 1) // data.folds, rest
    num_val = max(least, round(data.val_fraction * total)) if data.val_fraction else 0
    return rest - num_val, rest, rest


def count_splits(db: sqlite3.Connection, rule: str) -> dict[str, Any]:
    """Return the rows and the groups of each split, and how many groups are in more than one split."""
    rows, groups = (Counter(dict.fromkeys(SPLITS, 0)) for _ in range(2))
    shared = 0
    for _, found in groupby(db.execute(_COUNTS.format(rule=rule)), key=itemgetter(0)):
        of_group = {split: count for _, split, count in found}
        rows.update(of_group)
        groups.update(of_group.keys())
        shared += len(of_group) > 1
    return {"rows": dict(rows), "groups": dict(groups), "shared_groups": shared}


def _group_names(db: sqlite3.Connection) -> str:
    return ", ".join(name for (name,) in db.execute(_EXAMPLES))


def _hash(seed: int, text: str) -> float:
    """Return a number in [0, 1) that depends on nothing but the arguments."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{text}".encode()).digest()[:8], "big") / 2**64
