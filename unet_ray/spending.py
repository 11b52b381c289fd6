"""What a piece of work takes: seconds, those of the cores, bytes fetched, and waits for a store that did not answer."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields


@dataclass(frozen=True, kw_only=True, slots=True)
class Spent:
    """What work took in one process; adds up.

    ``seconds`` passed from its beginnings to its ends, ``cpu_seconds`` are those of all cores. ``bytes_read`` came from
    storage. ``outlasted`` counts the times that a store, having failed all retries of its client, was waited for.
    """

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    bytes_read: int = 0
    outlasted: int = 0

    def __add__(self, other: "Spent") -> "Spent":
        """Return what both took."""
        return Spent(**{name: getattr(self, name) + getattr(other, name) for name in _NAMES})

    def __sub__(self, other: "Spent") -> "Spent":
        """Return what one took beyond the other."""
        return Spent(**{name: getattr(self, name) - getattr(other, name) for name in _NAMES})


_NAMES = tuple(field.name for field in fields(Spent))

Spending = Mapping[str, Spent]
"""What each stage of a job took, by its name."""


def spending_to_json(spending: Spending) -> str:
    """Return spending as JSON."""
    return json.dumps({stage: asdict(spent) for stage, spent in spending.items()})


def spending_from_json(text: str) -> Spending:
    """Return the spending that `spending_to_json` wrote."""
    return {stage: Spent(**spent) for stage, spent in json.loads(text).items()}


class Clock:
    """Adds up what is spent while it is entered: in this process, or of the cores by the entering thread alone."""

    def __init__(self, *, of_thread: bool = False) -> None:
        self.spent = Spent()
        self._cpu_seconds = time.thread_time if of_thread else time.process_time

    def __enter__(self) -> None:
        self._began = self._now()

    def __exit__(self, *_: object) -> None:
        self.spent += self._now() - self._began

    def _now(self) -> Spent:
        return Spent(
            seconds=time.perf_counter(),
            cpu_seconds=self._cpu_seconds(),
            bytes_read=_Counted.bytes_read,
            outlasted=_Counted.outlasted,
        )


class _Counted:
    """What this process did so far that no clock shows."""

    bytes_read = 0
    outlasted = 0


def count_read(num_bytes: int) -> None:
    """Take note of bytes that came from storage."""
    _Counted.bytes_read += num_bytes


def count_outlasted() -> None:
    """Take note that a store has to be waited for."""
    _Counted.outlasted += 1
