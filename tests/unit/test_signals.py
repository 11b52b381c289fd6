import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from unet_ray.signals import stoppable

PRELUDE = """
import os, sys, threading, time
from unet_ray import signals
def say(word):
    os.write(1, f"{word}\\n".encode())
def wait(seconds=60):
    say("ready")
    time.sleep(seconds)
"""
BOTH = pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])


def stop(script: str, *numbers: int) -> tuple[int, list[str], str]:
    """Run a script; send it a signal whenever it says "ready"; return its code, the words it said, and its errors."""
    process = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    left, words = list(numbers), []
    for line in process.stdout:
        words.append(line.strip())
        if words[-1] == "ready" and left:
            process.send_signal(left.pop(0))
    _, said = process.communicate(timeout=120)
    assert not left
    return process.returncode, words, said


@BOTH
def test_a_signal_ends_the_work_in_order_and_says_how_to_go_on(number: signal.Signals, code: int) -> None:
    script = """
def work():
    try:
        wait()
    finally:
        say("in order")
signals.stoppable(work, "unet-ray train my.yaml")
say("never here")
"""
    line = f"stopping on {number.name}, again to stop at once; to go on: unet-ray train my.yaml\n"
    assert stop(script, number) == (code, ["ready", "in order"], line)


@BOTH
def test_a_second_signal_ends_the_process_at_once(number: signal.Signals, code: int) -> None:
    script = """
def work():
    try:
        wait()
    finally:
        wait()
        say("never here")
signals.stoppable(work, "again")
"""
    started = time.monotonic()
    found, words, _ = stop(script, number, number)
    assert (found, words) == (code, ["ready", "ready"])
    assert time.monotonic() - started < 50


def test_the_code_is_that_of_the_first_signal() -> None:
    script = """
def work():
    try:
        wait()
    finally:
        wait()
signals.stoppable(work, "again")
"""
    assert stop(script, signal.SIGTERM, signal.SIGINT)[0] == 143


def test_a_stop_that_hangs_or_goes_unheard_ends_at_the_deadline() -> None:
    for unheard in ("except KeyboardInterrupt: time.sleep(60)", "finally: threading.Event().wait()"):
        script = f"""
signals._DEADLINE_S = 0.5
def work():
    try:
        wait()
    {unheard}
signals.stoppable(work, "again")
"""
        assert stop(script, signal.SIGTERM)[:2] == (143, ["ready"])


def test_what_an_interrupt_turns_into_and_threads_left_behind_change_nothing() -> None:
    script = """
def work():
    threading.Thread(target=time.sleep, args=[60]).start()
    try:
        wait()
    except KeyboardInterrupt:
        raise RuntimeError("an actor died")
signals.stoppable(work, "again")
"""
    code, _, said = stop(script, signal.SIGTERM)
    assert (code, said.count("\n")) == (143, 1)


def test_a_signal_while_a_line_is_written_is_no_error() -> None:
    script = """
def work():
    say("ready")
    while True:
        sys.stderr.write("x" * 100 + "\\n")
signals.stoppable(work, "again")
"""
    process = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 143


def test_without_a_signal_the_result_is_the_works_and_the_handlers_are_as_before() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert stoppable(lambda: 7, "again") == 7
    with pytest.raises(KeyError):
        stoppable(lambda: {}[0], "again")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def wait_for(module: str) -> str:
    """Return code after which the import of a module waits to be stopped."""
    return f"""
class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            wait()
sys.meta_path.insert(0, Slow())"""


@pytest.mark.parametrize(
    ("command", "module"),
    [
        (["train", "CONFIG"], "pydantic"),
        (["train", "CONFIG", "--run.name", "a"], "ray"),
        (["report", "CONFIG"], "unet_ray.report.run"),
        (["verify", "s3://bucket/a table"], "unet_ray.table.verify"),
    ],
)
def test_a_command_is_stopped_while_it_loads(tmp_path: Path, command: list[str], module: str) -> None:
    path = tmp_path / "my config.yaml"
    path.write_text("{}")
    arguments = [str(path) if word == "CONFIG" else word for word in command]
    script = f"""
{wait_for(module)}
from unet_ray.cli import main
main({arguments!r})
"""
    code, _, said = stop(script, signal.SIGTERM)
    assert code == 143
    assert said.endswith(f"to go on: {shlex.join(['unet-ray', *arguments])}\n")


def test_a_job_says_its_own_command(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.touch()
    script = f"""
{wait_for("pydantic")}
os.chdir({str(Path(__file__).parents[2])!r})
sys.argv = ["", {str(path)!r}, "--optim.lr=1"]
import runpy
runpy.run_path("jobs/train.py", run_name="__main__")
"""
    code, _, said = stop(script, signal.SIGINT)
    assert code == 130
    assert said.endswith(f"to go on: python jobs/train.py {path} --optim.lr=1\n")


def test_a_submitted_job_is_to_be_submitted_again(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.touch()
    script = f"""
{wait_for("pydantic")}
os.environ["RAY_JOB_CONFIG_JSON_ENV_VAR"] = "{{}}"
from unet_ray.cli import main
main(["train", {str(path)!r}])
"""
    code, _, said = stop(script, signal.SIGTERM)
    assert (code, said) == (143, "stopping on SIGTERM, again to stop at once; to go on: submit it again\n")
