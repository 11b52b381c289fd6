"""Files that entries of all frames make up: tasks write portions of them, and the driver joins these as a stream."""

import csv
import functools
import io
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from unet_ray import storage
from unet_ray.faults import outlast
from unet_ray.object_file import send_file


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """A file of ``sections``, each a text and the name of the entries behind it; then comes ``end``.

    ``between`` stands between two entries. One without any text, nor any entry, is not written.
    """

    name: str
    sections: tuple[tuple[str, str], ...]
    between: str = ""
    end: str = ""


def csv_line(cells: Iterable[object]) -> str:
    """Return a line of CSV with its end; None is an empty cell."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def write_portion(folder: str, section: str, key: int, text: str) -> None:
    """Write what a task has of a section."""
    storage.write(_portion_uri(folder, section, key), text.encode())


def join(folder: str, document: Document, keys: Sequence[int]) -> None:
    """Write a document of the portions of some keys, in this order; one of them is in memory at a time."""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, "joined")
        with file.open("w", encoding="utf-8", newline="") as joined:
            joined.writelines(_pieces(folder, document, keys))
        if file.stat().st_size:
            outlast(lambda: send_file(file, f"{folder}/{document.name}"))


def delete_portions(folder: str) -> None:
    """Delete the portions of all documents."""
    uri = f"{folder}/_portions"
    outlast(lambda: storage.delete_all(uri))
    if not storage.is_remote(uri):
        shutil.rmtree(storage.absolute(uri))  # the folders, which are empty


def _pieces(folder: str, document: Document, keys: Sequence[int]) -> Iterator[str]:
    for head, section in document.sections:
        yield head
        before = ""
        for key in keys:
            text = outlast(functools.partial(storage.read_bytes, _portion_uri(folder, section, key))).decode()
            if text:
                yield before + text
                before = document.between
    yield document.end


def _portion_uri(folder: str, section: str, key: int) -> str:
    return f"{folder}/_portions/{section}/{key:09d}"
