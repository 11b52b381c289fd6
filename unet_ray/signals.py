"""Stopping a command with SIGINT or SIGTERM: once in good order, twice at once, and always within a deadline.

What is on disk can be gone on with at any moment, so a stop has nothing to save: its order is for Ray's sake.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

from unet_ray.terminal import CLEAR

_T = TypeVar("_T")
_DEADLINE_S = 18.0


def stoppable(work: Callable[[], _T], resume: str) -> _T:
    """Return ``work()``; SIGINT and SIGTERM end it, and the process with it, by code 130 and 143.

    The first signal says how to go on and raises KeyboardInterrupt in the main thread: of all exceptions, Ray passes on
    only this one unharmed. A second signal, or 18 s, ends the process whatever it is doing. Call it on the main thread.

    Args:
        work: What to do; its ``finally`` clauses run on the first signal.
        resume: The command that goes on where this one stops.
    """
    stopped_by: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if stopped_by:
            os._exit(128 + stopped_by[0])
        stopped_by.append(number)
        watchdog = threading.Timer(_DEADLINE_S, os._exit, [128 + number])
        watchdog.daemon = True
        watchdog.start()
        line = CLEAR if os.isatty(2) else ""
        line += f"stopping on {signal.Signals(number).name}, again to stop at once; to go on: {resume}\n"
        with contextlib.suppress(OSError):  # nobody reads it any more
            os.write(2, line.encode(errors="backslashreplace"))  # what was interrupted may be inside sys.stderr
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        try:
            return work()
        finally:
            if not stopped_by:
                for number, handler in before.items():
                    signal.signal(number, handler)
    finally:
        if stopped_by:  # an interpreter that shuts down in order would wait for threads that nobody stops
            os._exit(128 + stopped_by[0])
