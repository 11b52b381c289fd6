"""A Ray cluster of three nodes on this machine, jobs on it through the real command, and what to kill of them."""

import hashlib
import os
import random
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil
from ray.util import get_node_ip_address

from unet_ray.schema import DATASET, PREDICTION
from unet_ray.table.read import open_table

COMMAND = (sys.executable, "-c", "import sys; from unet_ray.cli import main; sys.exit(main())")
DEADLINE_S = 300
FIRST_SEED = int(os.environ.get("UNET_RAY_CHAOS_SEED", "0"))
"""Trials follow from their seeds, but for the timing of the machine; a failing trial has its seed in its name."""


class Nodes:
    """Three nodes behind a token: the head, where drivers run and which lives on, and two that may die.

    Lives while its context is entered. Started by ``ray start``, with the environment of that moment; what a job needs
    of it is ``environment``.
    """

    def __enter__(self) -> Self:
        self._token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        with socket.socket() as probe:
            probe.bind(("", 0))
            port = probe.getsockname()[1]
        self._head = self._start("--num-cpus=2", "--head", f"--port={port}", "--include-dashboard=false")
        address = f"{get_node_ip_address()}:{port}"
        self._join = ("--num-cpus=1", f"--address={address}")
        self._others = [self._start(*self._join) for _ in range(2)]
        self.environment = {"RAY_ADDRESS": address, **self._token}
        return self

    def __exit__(self, *_: object) -> None:
        for node in (*self._others, self._head):
            for process in (*node.children(recursive=True), node):
                with suppress(psutil.NoSuchProcess):
                    process.kill()

    def kill_node(self, rng: random.Random) -> None:
        """Kill a node without notice, and give the cluster a new one in its place."""
        node = self._others.pop(rng.randrange(len(self._others)))
        next(process for process in node.children(recursive=True) if process.name() == "raylet").kill()
        self._others.append(self._start(*self._join))

    def kill_worker(self, rng: random.Random, kind: str) -> bool:
        """Kill a process that runs tasks or is an actor of a job; tell whether there was one."""
        running = psutil.process_iter(["cmdline"])
        found = [process for process in running if kind in " ".join(process.info["cmdline"] or ())]
        if not found:
            return False
        rng.choice(sorted(found, key=lambda process: process.pid)).kill()
        return True

    def _start(self, *arguments: str) -> psutil.Popen:
        node = psutil.Popen(
            [
                str(Path(sys.executable).with_name("ray")), "start", "--block", "--disable-usage-stats",
                f"--object-store-memory={256 * 2**20}", *arguments,
            ],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, **self._token}, text=True,
        )  # fmt: skip
        said = []
        for line in node.stdout:
            said.append(line)
            if "Ray runtime started" in line:
                threading.Thread(target=node.stdout.read, daemon=True).start()
                return node
        raise RuntimeError("".join(said))


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
