"""Jobs on a cluster through the real command, and what they leave."""

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from unet_ray.schema import DATASET, PREDICTION
from unet_ray.table.read import open_table

COMMAND = (sys.executable, "-c", "import sys; from unet_ray.cli import main; sys.exit(main())")
DEADLINE_S = 300
FIRST_SEED = int(os.environ.get("UNET_RAY_CHAOS_SEED", "0"))
"""Trials follow from their seeds, but for the timing of the machine; a failing trial has its seed in its name."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A configuration file, and where the cluster and the store are."""

    path: Path
    environment: Mapping[str, str]

    def start(self, stage: str, *flags: str) -> "subprocess.Popen[str]":
        """Start a command on the cluster."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        return subprocess.Popen(
            [*COMMAND, stage, str(self.path), *flags],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env={**kept, **self.environment},
        )  # fmt: skip

    def finish(self, stage: str, *flags: str) -> None:
        """Run a command to its good end."""
        process = self.start(stage, *flags)
        _, said = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 0, said


def wait_for(ready: Callable[[], bool], process: "subprocess.Popen[str]") -> bool:
    """Wait until something is so, or the process has ended; tell which."""
    deadline = time.monotonic() + DEADLINE_S
    while process.poll() is None and not ready():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process.poll() is None


def table_hash(uri: str) -> str:
    """Return a hash of all rows of a published table, pixels and counts included, in plan order."""
    digest, table = hashlib.sha256(), open_table(uri)
    schema = DATASET if table.plan.kind == "dataset" else PREDICTION
    for row in table.read(schema.names).to_pylist():
        digest.update(repr(sorted(row.items())).encode())
    return digest.hexdigest()
