"""A Ray cluster of several nodes on this machine."""

import os
import random
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

import psutil
from ray.util import get_node_ip_address


class Nodes:
    """Nodes behind a token: the head, where drivers run and which lives on, and others that may die.

    Live while their context is entered. Started by ``ray start``, with the environment of that moment; what a job needs
    of them is ``environment``.
    """

    def __init__(self, *others: int, head: int, dashboard: bool = False) -> None:
        """Take the CPUs of each node, and whether jobs can be submitted, to ``dashboard``, and seen, at ``metrics``."""
        self._cpus, self._head_cpus, self._has_dashboard = others, head, dashboard

    def __enter__(self) -> Self:
        self._token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        port, *more = free_ports(4)
        names = ("dashboard-port", "dashboard-agent-listen-port", "metrics-export-port")
        served = [f"--{name}={at}" for name, at in zip(names, more, strict=True)]
        self.dashboard, self.metrics = f"http://127.0.0.1:{more[0]}", f"http://127.0.0.1:{more[2]}/metrics"
        # A submitted job joins the cluster that was started last with the same folder, whoever started that.
        self._folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # its sockets may have no long names
        self._head = self._start(
            f"--num-cpus={self._head_cpus}", "--head", f"--port={port}", f"--temp-dir={self._folder}",
            *(served if self._has_dashboard else ["--include-dashboard=false"]),
        )  # fmt: skip
        address = f"{get_node_ip_address()}:{port}"
        self._join = f"--address={address}"
        self._others = [self._start(f"--num-cpus={cpus}", self._join) for cpus in self._cpus]
        self.environment = {"RAY_ADDRESS": address, **self._token}
        return self

    def __exit__(self, *_: object) -> None:
        for node in (*self._others, self._head):
            end_node(node)
        shutil.rmtree(self._folder, ignore_errors=True)

    def add_node(self, *arguments: str) -> psutil.Process:
        """Start one more node by further arguments of ``ray start``; return its process."""
        self._others.append(self._start(self._join, *arguments))
        return self._others[-1]

    def kill_node(self, rng: random.Random) -> None:
        """Kill a node without notice, and give the cluster a new one in its place."""
        place = rng.randrange(len(self._others))
        next(process for process in self._others[place].children(recursive=True) if process.name() == "raylet").kill()
        self._others[place] = self._start(f"--num-cpus={self._cpus[place]}", self._join)

    def drain_node(self) -> None:
        """Tell the last node that its machine is going to stop, as an operating system does."""
        self._others[-1].terminate()

    def take_node(self) -> None:
        """End the last node, as the end of its machine would."""
        end_node(self._others[-1])

    def kill_worker(self, rng: random.Random, names: tuple[str, ...]) -> bool:
        """Kill a process whose name begins like one of these; tell whether there was one."""
        running = psutil.process_iter(["cmdline"])
        found = [process for process in running if (process.info["cmdline"] or [""])[0].startswith(names)]
        if not found:
            return False
        rng.choice(sorted(found, key=lambda process: process.pid)).kill()
        return True

    def _start(self, *arguments: str) -> psutil.Popen:
        return start_node(*arguments, environment=self._token)


def start_node(*arguments: str, environment: Mapping[str, str], host: Sequence[str] = ()) -> psutil.Popen:
    """Start a node with ``ray start`` and return its process once it runs.

    Args:
        arguments: Of the command.
        environment: What its processes have beside this one's variables.
        host: A command that runs another one elsewhere.
    """
    node = psutil.Popen(
        [
            *host, str(Path(sys.executable).with_name("ray")), "start", "--block", "--disable-usage-stats",
            f"--object-store-memory={256 * 2**20}", *arguments,
        ],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **environment},
    )  # fmt: skip
    said = []
    for line in node.stdout:
        said.append(line)
        if "Ray runtime started" in line:
            threading.Thread(target=node.stdout.read, daemon=True).start()
            return node
    raise RuntimeError("".join(said))


def end_node(node: psutil.Process) -> None:
    """End a node, as the end of its machine would."""
    with suppress(psutil.NoSuchProcess):
        for process in (*node.children(recursive=True), node):
            with suppress(psutil.NoSuchProcess):
                process.kill()


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("", 0))
        return [probe.getsockname()[1] for probe in probes]
