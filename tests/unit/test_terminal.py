"""What a person sees of a command on a (pseudo-)terminal, and what is left of it in a log."""

import os
import pty
import re
import subprocess
import sys
import termios

from unet_ray.terminal import CLEAR

JOB = """
import logging, os, sys
from dataclasses import replace
from unet_ray import cli
from unet_ray.errors import DatasetError
from unet_ray.logs import LIVE

logger = logging.getLogger("unet_ray.prepare")

def work(options):
    logger.info("prepare: %d/%d pairs", 1, 3, extra=LIVE)
    logger.info("prepare: %d/%d pairs", 2, 3, extra=LIVE)
    logger.warning("a store is slow")
    logger.info("prepare: %d/%d pairs", 3, 3)
    match options.uri:
        case "fault":
            raise KeyError("missing")
        case "error":
            raise DatasetError("data.root: there is nothing")
        case "stopped":
            logger.info("prepare: %d/%d pairs", 4, 5, extra=LIVE)
            os.kill(os.getpid(), 2)
    sys.stderr.write("a table of results\\n")
    return {"ok": 3}

cli.COMMANDS["verify"] = replace(cli.COMMANDS["verify"], work=work)
sys.exit(cli.main(["verify", *sys.argv[1:]]))
"""
PROGRESS = ["TIME prepare: 1/3 pairs", "TIME prepare: 2/3 pairs"]
WARNING = "TIME \x1b[33mwarning:\x1b[0m a store is slow\n"
DONE = "TIME prepare: 3/3 pairs\n"
RED = "\x1b[1;31merror:\x1b[0m"


def environment(**changes: str) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    return {**plain, "TERM": "xterm", **changes}


def show(*arguments: str, columns: int = 100, **changes: str) -> tuple[int, list[str]]:
    """Run a job on a terminal; return its code, and what it writes at the beginning of a line."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, columns))
    command = [sys.executable, "-c", JOB, *arguments]
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment(**changes))
    os.close(theirs)
    shown = b""
    try:
        while data := os.read(ours, 1000):
            shown += data
    except OSError:  # so Linux says that nobody is at the other end any more
        os.close(ours)
    text = re.sub(r"\d\d:\d\d:\d\d", "TIME", shown.decode().replace("\r\n", "\n"))
    return process.wait(), text.removeprefix(CLEAR).split(CLEAR)


def log(*arguments: str, **changes: str) -> tuple[int, str, list[str]]:
    """Run a job whose output goes to files; return its code, standard output, and the lines of standard error."""
    command = [sys.executable, "-c", JOB, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(**changes), check=False)
    return done.returncode, done.stdout, re.sub(r"\d\d:\d\d:\d\d", "TIME", done.stderr).splitlines(keepends=True)


def test_a_terminal_has_a_line_that_is_written_over_and_no_json() -> None:
    assert show("fine") == (0, [*PROGRESS, WARNING, DONE + "a table of results\n"])


def test_a_log_has_few_lines_no_colours_and_the_result_apart() -> None:
    few = [f"{PROGRESS[0]}\n", "TIME warning: a store is slow\n", DONE, "a table of results\n"]
    assert log("fine") == (0, '{"ok": 3}\n', few)


def test_json_is_all_there_is_beside_warnings() -> None:
    assert show("fine", "--json") == (0, [WARNING + '{"ok": 3}\n'])
    assert log("fine", "--json") == (0, '{"ok": 3}\n', ["TIME warning: a store is slow\n"])


def test_a_live_line_does_not_wrap() -> None:
    assert show("fine", columns=20)[1][:2] == ["TIME prepare: 1", "TIME prepare: 2"]
    assert show("fine", columns=0)[1][:2] == PROGRESS


def test_colours_are_as_the_environment_wants_them() -> None:
    plain = "TIME warning: a store is slow\n"
    assert show("fine", NO_COLOR="1")[1] == [*PROGRESS, plain, DONE + "a table of results\n"]
    assert show("fine", NO_COLOR="")[1][2] == WARNING
    assert log("fine", FORCE_COLOR="1")[2][1] == WARNING
    assert log("fine", FORCE_COLOR="1", NO_COLOR="1")[2][1] == plain
    few = "".join([f"{PROGRESS[0]}\n", plain, DONE, "a table of results\n"])
    assert show("fine", TERM="dumb") == (0, [few])


def test_a_fault_of_ours_is_a_line_on_a_terminal_and_has_its_trace_in_a_log() -> None:
    code, lines = show("fault")
    assert (code, lines[-1]) == (1, f"{RED} a fault of ours: KeyError: 'missing'; --debug shows its trace\n")
    _, lines = show("fault", "--debug")
    assert lines[-1].startswith("  Traceback (most recent call last):\n")
    told = "a fault of ours: KeyError: 'missing'; its trace is above\n"
    assert lines[-1].endswith(f"\n  KeyError: 'missing'\n{RED} {told}")
    code, said, logged = log("fault")
    assert (code, said) == (1, "")
    assert "  KeyError: 'missing'\n" in logged
    assert logged[-1] == f"error: {told}"


def test_an_error_of_the_users_has_a_trace_if_it_is_asked_for() -> None:
    code, lines = show("error")
    assert (code, lines[-1]) == (2, f"{RED} data.root: there is nothing\n")
    code, said, logged = log("error", "--debug")
    assert (code, said, logged[-1]) == (2, "", "error: data.root: there is nothing\n")
    assert logged[-2] == "  unet_ray.errors.DatasetError: data.root: there is nothing\n"


def test_a_stop_begins_a_line_of_its_own() -> None:
    code, lines = show("stopped")
    assert code == 130
    assert lines[-1].startswith("stopping on SIGINT, again to stop at once; to go on: unet-ray verify ")


def test_headings_of_the_help_are_bold_on_a_terminal() -> None:
    assert log("-h")[1].startswith("usage: unet-ray verify [-h] ")
    assert log("-h", FORCE_COLOR="1")[1].startswith("\x1b[1musage:\x1b[0m unet-ray verify [-h] ")
