"""What a terminal can do that a log cannot: colours, and a line that is written over."""

import os
from collections.abc import Mapping
from typing import Literal, TextIO

CLEAR = "\r\x1b[K"
"""Begins a line anew, whatever is in it."""

Style = Literal["red", "yellow", "green", "bold"]

_STYLES: Mapping[Style, str] = {"red": "1;31", "yellow": "33", "green": "32", "bold": "1"}
_COLUMNS = 80


def is_terminal(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Tell whether a stream is a terminal on which a line can be written over."""
    return stream.isatty() and environment.get("TERM") != "dumb"


def has_colours(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Tell whether what is written to a stream may be coloured.

    ``NO_COLOR`` forbids it and ``FORCE_COLOR`` asks for it, if they are not empty (no-color.org, force-color.org).
    """
    if environment.get("NO_COLOR"):
        return False
    return bool(environment.get("FORCE_COLOR")) or is_terminal(stream, environment)


def paint(text: str, style: Style) -> str:
    """Return a text in a colour, or bold."""
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m"


def columns_of(stream: TextIO) -> int:
    """Return the width of a terminal in characters, 80 where it does not know."""
    return os.get_terminal_size(stream.fileno()).columns or _COLUMNS
