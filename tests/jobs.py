"""Jobs through the real command, and what they leave."""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from unet_ray.schema import DATASET, PREDICTION
from unet_ray.table.read import open_table

COMMAND = (sys.executable, "-c", "import sys; from unet_ray.cli import main; sys.exit(main())")
DEADLINE_S = 600
"""When a job is given up. Machines differ, and a slow one is no failure."""
FIRST_SEED = int(os.environ.get("UNET_RAY_CHAOS_SEED", "0"))
"""Trials follow from their seeds, but for the timing of the machine; a failing trial has its seed in its name."""


def environment() -> dict[str, str]:
    """Return the environment without what the tests' own Ray put there."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A configuration file, and what its jobs have in their environment, such as a cluster and a store.

    ``host`` is a command that runs another one elsewhere.
    """

    path: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    host: Sequence[str] = ()

    def start(self, stage: str, *flags: str) -> "subprocess.Popen[str]":
        """Start a job."""
        return subprocess.Popen(
            [*self.host, *COMMAND, stage, str(self.path), *flags],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**environment(), **self.environment},
        )  # fmt: skip

    def finish(self, stage: str, *flags: str) -> dict[str, Any]:
        """Run a job to its good end and return its result."""
        said, complaints = communicate(process := self.start(stage, *flags))
        assert process.returncode == 0, complaints
        (line,) = said.splitlines()
        result: dict[str, Any] = json.loads(line)
        return result


def communicate(process: "subprocess.Popen[str]") -> tuple[str, str]:
    """Wait for the end of a job and return its standard output and error."""
    try:
        return process.communicate(timeout=DEADLINE_S)
    except subprocess.TimeoutExpired:
        give_up(process)


def wait_for(ready: Callable[[], bool], process: "subprocess.Popen[str]") -> bool:
    """Wait until something is so, or the process has ended; tell which."""
    deadline = time.monotonic() + DEADLINE_S
    while process.poll() is None and not ready():
        if time.monotonic() > deadline:
            give_up(process)
        time.sleep(0.02)
    return process.poll() is None


def give_up(process: "subprocess.Popen[str]") -> NoReturn:
    """End a job that takes too long, and fail with what it said."""
    process.kill()
    raise AssertionError(f"not there after {DEADLINE_S} s; it said: {process.communicate()[1]}")


def count(folder: Path, pattern: str) -> int:
    """Return how many files there are, none where there is no folder yet."""
    return len(list(folder.glob(pattern))) if folder.exists() else 0


def table_hash(uri: str) -> str:
    """Return a hash of all rows of a published table, pixels and counts included, in plan order."""
    digest, table = hashlib.sha256(), open_table(uri)
    schema = DATASET if table.plan.kind == "dataset" else PREDICTION
    for row in table.read(schema.names).to_pylist():
        digest.update(repr(sorted(row.items())).encode())
    return digest.hexdigest()
