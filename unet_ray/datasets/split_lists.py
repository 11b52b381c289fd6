"""Split lists: train.txt, val.txt and test.txt, each with an entry a line that names a pair; read as streams."""

from collections.abc import Callable, Iterator, Mapping

from unet_ray import storage
from unet_ray.datasets.inputs import open_text
from unet_ray.datasets.listing import Listing, Row
from unet_ray.datasets.splits import SPLITS
from unet_ray.errors import DatasetError
from unet_ray.faults import translated


def add_split_lists(listing: Listing, folder: str, row_of: Callable[[str], Row]) -> bool:
    """Add what the lists in a folder name, in their order; return whether there are any.

    Nothing is looked up: an entry whose files are not there is a row that is quarantined when it is fetched. Blank
    lines are skipped. No more than a few lines are in memory at once.

    Args:
        listing: Where to add the rows.
        folder: URI of the folder of the lists.
        row_of: What makes the row of an entry, without its split; it raises ValueError for one it cannot read.

    Raises:
        DatasetError: An entry cannot be read, an image is in two splits, or there is no entry at all.
    """
    lists = {split: uri for split in SPLITS if storage.exists(uri := f"{folder}/{split}.txt")}
    if not lists:
        return False
    listing.add_list(_rows(lists, row_of), f"{folder}/{{{','.join(lists)}}}.txt")
    if not listing.num_rows:
        raise DatasetError(f"{folder}: {', '.join(lists)}.txt name nothing; fill the lists or remove them")
    return True


def _rows(lists: Mapping[str, str], row_of: Callable[[str], Row]) -> Iterator[Row]:
    for split, uri in lists.items():
        for number, line in _lines(uri):
            try:
                row = row_of(line)
            except ValueError as error:
                raise DatasetError(f"{uri}: line {number}: {error}") from None
            yield row | {"split": split}


def _lines(uri: str) -> Iterator[tuple[int, str]]:
    """Yield the lines that hold something, with their numbers."""
    try:
        with translated("read", uri), open_text(uri) as text:
            for number, line in enumerate(text, start=1):
                if entry := line.strip():
                    yield number, entry
    except UnicodeDecodeError:
        raise DatasetError(f"{uri}: not a list: it is no text in UTF-8") from None
