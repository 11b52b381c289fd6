"""What a file name tells: its natural order, its sequence and its frame number."""

import re
from pathlib import PurePosixPath

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff"})
"""Lower-case endings of the files that are taken for images."""

_DIGITS = re.compile(r"(\d+)")
_NUMBER, _OTHER_DIGITS, _END = b"\0\0", b"\0\1", b"\0\2"  # what follows a text, in this order
_FRAME = re.compile(r"^(?P<sequence>.*?)(?:[_\-. ]+[A-Za-z]?)?(?P<frame>\d+)$")
_MOST_DIGITS = 18  # what an int64 holds; a longer number is a hash or an identifier


def natural_key(key: str) -> bytes:
    """Return a sort key that orders numbers by value: ``2.png`` before ``10.png``.

    Texts are ordered by code point, and where one name has a number and the other has not, the number comes first.
    Names that differ only in padding (``1.png``, ``01.png``) are told apart by the name itself, which comes last.
    Keys are bytes, so that a database can sort by them.

    Raises:
        UnicodeEncodeError: The name has no UTF-8 form, as that of a local file may.
    """
    first, *rest = _DIGITS.split(key)
    parts = [_text(first)]
    for digits, text in zip(rest[::2], rest[1::2], strict=True):
        if digits.isascii():
            value = digits.lstrip("0").encode()
            parts += [_NUMBER, len(value).to_bytes(2, "big"), value, _text(text)]
        else:
            parts += [_OTHER_DIGITS, digits.encode(), b"\0", _text(text)]
    return b"".join((*parts, _END, key.encode()))


def _text(text: str) -> bytes:
    """Return bytes in which the marks below, which end a text, come before any longer text."""
    return text.encode().replace(b"\0", b"\0\xff")


def is_image(key: str) -> bool:
    """Tell whether a name ends like an image file."""
    return PurePosixPath(key).suffix.lower() in IMAGE_SUFFIXES


def stem_of(key: str) -> str:
    """Return a key without the ending of its file."""
    return key.rpartition(".")[0]


def parse_frame(key: str) -> tuple[str, int | None]:
    """Return the group and frame number that a key tells.

    The group is the folder when there is one, else what stands before the frame number: ``a/b/00012.jpg`` is
    frame 12 of ``a/b``, ``0001TP_006690.png`` frame 6690 of ``0001TP``, ``Seq05VD_f00030.png`` frame 30 of
    ``Seq05VD``. A name without a number at its end has no frame; one without a folder then has the group "".
    """
    path = PurePosixPath(key)
    folder = "" if str(path.parent) == "." else str(path.parent)
    match = _FRAME.match(path.stem)
    if match is None or len(match["frame"]) > _MOST_DIGITS:
        return folder, None
    return folder or match["sequence"], int(match["frame"])
