"""What came of the trials of a test session: counted by the tests, told as one JSON line (``pytest --tally FILE``)."""

import json
import time
from collections import Counter
from pathlib import Path

import pytest

KEYS = ("trials", "lost", "duplicated", "mismatched")


class Tally:
    """Trials and what they found: rows lost, rows duplicated, tables whose rows or totals differ from a calm run's."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._counts: Counter[str] = Counter()

    def add(self, *, trials: int, lost: int = 0, duplicated: int = 0, mismatched: int = 0, **more: int) -> None:
        self._counts.update({"trials": trials, "lost": lost, "duplicated": duplicated, "mismatched": mismatched})
        self._counts.update(more)

    def to_json(self) -> str:
        seconds = round(time.monotonic() - self._started, 1)
        return json.dumps({**dict.fromkeys(KEYS, 0), **self._counts, "seconds": seconds})


SESSION = pytest.StashKey[Tally]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--tally", metavar="FILE", help="write what came of all trials to this file, as one JSON line")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SESSION] = Tally()


def pytest_sessionfinish(session: pytest.Session) -> None:
    path = session.config.getoption("--tally")
    if path:
        Path(path).write_text(session.config.stash[SESSION].to_json() + "\n")


@pytest.fixture(scope="session")
def tally(pytestconfig: pytest.Config) -> Tally:
    """Give the tally of this session."""
    return pytestconfig.stash[SESSION]
