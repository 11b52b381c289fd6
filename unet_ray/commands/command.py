"""What each command of ``unet-ray`` declares, and the parser that it is read with."""

import argparse
import difflib
import os
import re
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from unet_ray.errors import ConfigError
from unet_ray.terminal import has_colours, paint

GATE = 3
"""Exit code where a result is on the wrong side of what was asked for."""


class Parser(argparse.ArgumentParser):
    """A parser that raises ConfigError, one line that says where to look, where argparse would end the process."""

    def __init__(self, **options: Any) -> None:
        """Make one in which an option may be declared anew, such as ``--help``."""
        super().__init__(
            allow_abbrev=False,
            conflict_handler="resolve",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **options,
        )
        self.hint: Callable[[str], str] = self._nearest
        """Gives a hint at the option that was meant, or nothing."""

    def parse(self, arguments: Sequence[str] | None) -> Namespace:
        """Return what the arguments say; None takes those of the process.

        Raises:
            ConfigError: They are not what was declared.
        """
        found, unknown = self.parse_known_args(arguments)
        if unknown:
            option = unknown[0].partition("=")[0]
            self.refuse(f"{option}: no such option{self.hint(option)}")
        return found

    def error(self, message: str) -> NoReturn:
        """Raise what argparse complains of."""
        self.refuse(f"{self.prog}: {message}")

    def refuse(self, message: str) -> NoReturn:
        """Raise a complaint."""
        raise ConfigError(f"{message} (see {self.prog} --help)")

    def format_help(self) -> str:
        """Return the help, its headings bold on a terminal."""
        text = super().format_help()
        if not has_colours(sys.stdout, os.environ):
            return text
        return re.sub(r"^([a-z][^\n]*:)$|^(usage:)", lambda found: paint(found[0], "bold"), text, flags=re.MULTILINE)

    def _nearest(self, option: str) -> str:
        close = difflib.get_close_matches(option, self._option_string_actions, n=1)
        return f"; did you mean {close[0]}?" if close else ""


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command, and all that is special about it.

    Attributes:
        name: The word after ``unet-ray``.
        purpose: What goes in and what comes out, in a line.
        example: Arguments that make sense, as typed.
        arguments: Declares them to the parser.
        work: Does it, with logging set up. Its result becomes the line of JSON on standard output; text is that itself.
        gate: Makes an exit code of the result.
        usage: The first line of the help, where the parser's own says too little.
    """

    name: str
    purpose: str
    example: str
    arguments: Callable[[Parser], None]
    work: Callable[[Namespace], Mapping[str, Any] | str]
    gate: Callable[[Namespace, Mapping[str, Any]], int] = lambda options, result: 0
    usage: str | None = None

    def parser(self) -> Parser:
        """Return the parser of its arguments."""
        prog = f"unet-ray {self.name}"
        purpose = f"{self.purpose[0].upper()}{self.purpose[1:]}."
        parser = Parser(
            prog=prog,
            usage=self.usage and f"{prog} {self.usage}",
            description=purpose,
            epilog=f"Example: {prog} {self.example}",
        )
        self.arguments(parser)
        parser.add_argument("--json", action="store_true", help="print the result as a line of JSON, and no progress")
        parser.add_argument("--debug", action="store_true", help="show where an error comes from")
        return parser


def place(uri: str) -> str:
    """Spell a URI that was typed so that it means the same in every process."""
    from unet_ray import storage

    return storage.absolute(uri.rstrip("/"))
