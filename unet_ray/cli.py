"""The command line: ``unet-ray COMMAND ...``, for each of `COMMANDS`.

The only place, with ``jobs/``, that reads argv, sets up logging and ends in an exit code. Heavy imports wait until a
command does its work, so ``--help`` answers at once.

Standard output carries the result, one line of JSON, and nothing else; a terminal, where what the command says is
read by a person, has it only with ``--json``. All else goes to standard error.
"""

import contextlib
import difflib
import json
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from unet_ray import __version__
from unet_ray.access import is_submitted
from unet_ray.commands import COMMANDS
from unet_ray.commands.command import Command, Parser
from unet_ray.errors import ConfigError
from unet_ray.logs import complain, set_up_logging
from unet_ray.signals import stoppable
from unet_ray.terminal import is_terminal

_EXIT_CODES = """\
exit codes:
  0         done
  1         a fault of ours
  2         something for you to mend: the last line says what
  3         a gate was not met, such as compare --at-least
  130, 143  stopped by SIGINT, SIGTERM; the same command goes on"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the ``unet-ray`` command; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in COMMANDS:
        return _run(COMMANDS[arguments[0]], arguments[1:], ["unet-ray", *arguments])
    set_up_logging(os.environ)
    try:
        _describe(arguments)
    except ConfigError as error:
        complain(str(error))
    return 2


def run_stage(stage: str, argv: Sequence[str] | None = None) -> int:
    """Run one stage from its command line: a YAML file and overrides; returns the exit code.

    Args:
        stage: One of `STAGES`.
        argv: Arguments of ``unet-ray STAGE``; None takes those of the process, which is a script of ``jobs/``.
    """
    if argv is None:
        return _run(COMMANDS[stage], sys.argv[1:], ["python", *sys.argv])
    return main([stage, *argv])


def _describe(arguments: Sequence[str]) -> None:
    """Answer ``--help`` and ``--version``, which ends the process, and refuse what names no command.

    Raises:
        ConfigError: It names none.
    """
    parser = Parser(
        prog="unet-ray",
        usage="unet-ray COMMAND ...",
        description="Semantic segmentation as a distributed batch job on Ray.",
        epilog=f"{_EXIT_CODES}\n\nExample: unet-ray train --help",
    )
    parser.add_argument("--version", action="version", version=__version__)
    listing = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        listing.add_parser(name, help=command.purpose, add_help=False)
    if arguments and not arguments[0].startswith("-"):
        close = difflib.get_close_matches(arguments[0], COMMANDS, n=1)
        parser.refuse(f"{arguments[0]}: no such command{f'; did you mean {close[0]}?' if close else ''}")
    parser.parse(arguments)


def _run(command: Command, arguments: Sequence[str], typed: Sequence[str]) -> int:
    """Do what a command is told until it is done or stopped, and then say how to go on: by what was ``typed``."""
    resume = "submit it again" if is_submitted(os.environ) else shlex.join(typed)
    return stoppable(partial(_guarded, command, arguments), resume)


def _guarded(command: Command, arguments: Sequence[str]) -> int:
    """Do it with logging set up and output kept apart; turn errors into one line and a code."""
    as_json, debug = "--json" in arguments, "--debug" in arguments  # for submit, behind the name of the stage as well
    set_up_logging(os.environ, quiet=as_json)
    try:
        options = command.parser().parse(arguments)
        with _kept_apart(quiet=as_json):
            result = command.work(options)
    except Exception as error:
        return _explain(error, debug)
    if isinstance(result, str):
        sys.stdout.write(result)
        return 0
    if as_json or not sys.stdout.isatty():
        sys.stdout.write(json.dumps(result, ensure_ascii=False) + "\n")
        sys.stdout.flush()
    return command.gate(options, result)


@contextlib.contextmanager
def _kept_apart(*, quiet: bool) -> Iterator[None]:
    """Send what is printed to standard error, or nowhere if ``quiet``; log lines go their own way."""
    with contextlib.ExitStack() as stack:
        out = stack.enter_context(Path(os.devnull).open("w")) if quiet else sys.stderr
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(out))
        yield


def _explain(error: Exception, debug: bool) -> int:
    """Say what ended a command, in one line; returns the exit code.

    An error of the user's comes with a trace if they ask for one; a fault of ours also in a log, where nobody can.
    """
    from unet_ray.runtime import our_error

    known = our_error(error)
    if known is not None:
        complain(str(known), error if debug else None)
        return 2
    debug = debug or not is_terminal(sys.stderr, os.environ)
    cause = getattr(error, "cause", None) or error  # Ray's errors of tasks hold what was raised in them
    said = f"{type(cause).__name__}: {cause}".strip().partition("\n")[0]
    where = "its trace is above" if debug else "--debug shows its trace"
    complain(f"a fault of ours: {said}; {where}", error if debug else None)
    return 1
