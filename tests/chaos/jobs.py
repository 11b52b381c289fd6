"""A Ray cluster of three nodes on this machine, jobs on it through the real command, and what to kill of them."""

import hashlib
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
from ray.cluster_utils import Cluster

from unet_ray.schema import PREDICTION
from unet_ray.table.read import open_table

COMMAND = (sys.executable, "-c", "import sys; from unet_ray.cli import main; sys.exit(main())")
DEADLINE_S = 300
FIRST_SEED = int(os.environ.get("UNET_RAY_CHAOS_SEED", "0"))
"""Trials follow from their seeds, but for the timing of the machine; a failing trial has its seed in its name."""

_NODE = {"num_cpus": 2, "object_store_memory": 256 * 2**20}


class Nodes:
    """Three raylets: the head, where drivers run and which lives on, and two that may die."""

    def __init__(self) -> None:
        self._cluster = Cluster(initialize_head=True, head_node_args={**_NODE, "include_dashboard": False})
        self._others = [self._cluster.add_node(**_NODE) for _ in range(2)]
        self.address: str = self._cluster.address

    def close(self) -> None:
        self._cluster.shutdown()

    def kill_raylet(self, rng: random.Random) -> None:
        """Kill a node without notice, and give the cluster a new one in its place."""
        node = self._others.pop(rng.randrange(len(self._others)))
        self._cluster.remove_node(node, allow_graceful=False)
        self._others.append(self._cluster.add_node(**_NODE))

    def kill_worker(self, rng: random.Random, kind: str) -> bool:
        """Kill a process that runs tasks or is an actor of a job; tell whether there was one."""
        found = [
            process for process in psutil.process_iter(["cmdline"]) if kind in " ".join(process.info["cmdline"] or ())
        ]
        if not found:
            return False
        rng.choice(sorted(found, key=lambda process: process.pid)).kill()
        return True


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
    """Return a hash of all rows of a published predictions table, masks and counts included, in plan order."""
    digest = hashlib.sha256()
    for row in open_table(uri).read(PREDICTION.names).to_pylist():
        digest.update(repr(sorted(row.items())).encode())
    return digest.hexdigest()
