"""A Ray cluster of several hosts on this machine: each is a network namespace with an address of its own, on a bridge.

Needs root, and a kernel that lets it make namespaces: see `permitted`.
"""

import os
import secrets
import shutil
import subprocess
from collections.abc import Mapping
from typing import Self

import psutil

from tests.nodes import end_node, start_node

_PORT = 6379


def permitted() -> bool:
    """Tell whether hosts can be made here."""
    if os.geteuid() or not shutil.which("ip"):
        return False
    probe = f"unet-ray-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, check=False).returncode == 0
    if made:
        _ip("netns", "del", probe)
    return made


class Hosts:
    """A head without CPUs, where drivers run, and hosts for the work, behind a token; live while entered.

    This machine is one more host of theirs, at ``outside``, for a server. What a job needs to run on the head is
    ``environment`` and ``on_head``, a command that runs another one there.
    """

    def __init__(self, *cpus: int) -> None:
        """Take the CPUs of each host."""
        self._cpus = cpus
        self._name = f"ur{os.getpid() % 10**6}"
        self._net = f"10.77.{os.getpid() % 250}"
        self._names = [f"{self._name}h{number}" for number in range(len(cpus) + 1)]
        self.outside = f"{self._net}.254"
        self.on_head = self._on(0)

    def __enter__(self) -> Self:
        _ip("link", "add", self._name, "type", "bridge")
        _ip("addr", "add", f"{self.outside}/24", "dev", self._name)
        _ip("link", "set", self._name, "up")
        for number, name in enumerate(self._names):
            _ip("netns", "add", name)
            _ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip("link", "set", name, "master", self._name, "up")
            for command in (
                ("addr", "add", f"{self._address(number)}/24", "dev", "eth0"), ("link", "set", "eth0", "up"),
                ("link", "set", "lo", "up"),
            ):  # fmt: skip
                _ip("-n", name, *command)
        self._token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self.environment = {"RAY_ADDRESS": f"{self._address(0)}:{_PORT}", **self._token}
        return self

    def start(self, environment: Mapping[str, str]) -> None:
        """Start Ray on all hosts, whose processes have these variables."""
        self._token |= {**environment, "GLOO_SOCKET_IFNAME": "eth0"}  # the name of all of them is that of this machine
        self._nodes = [self._start(0, "--head", "--num-cpus=0", f"--port={_PORT}", "--include-dashboard=false")]
        self._nodes += [self._join(number) for number in range(1, len(self._names))]

    def __exit__(self, *_: object) -> None:
        for node in reversed(getattr(self, "_nodes", [])):
            end_node(node)
        for name in self._names:
            subprocess.run(["ip", "netns", "del", name], check=False)
        subprocess.run(["ip", "link", "del", self._name], check=False)

    def replace_host(self, number: int) -> None:
        """Kill a host's node without notice, from 1, and start another one there."""
        next(one for one in self._nodes[number].children(recursive=True) if one.name() == "raylet").kill()
        self._nodes[number] = self._join(number)

    def _join(self, number: int) -> psutil.Popen:
        return self._start(number, f"--num-cpus={self._cpus[number - 1]}", f"--address={self._address(0)}:{_PORT}")

    def _start(self, number: int, *arguments: str) -> psutil.Popen:
        here = f"--node-ip-address={self._address(number)}"
        return start_node(*arguments, here, environment=self._token, host=self._on(number))

    def _on(self, number: int) -> tuple[str, ...]:
        return "ip", "netns", "exec", self._names[number]

    def _address(self, number: int) -> str:
        return f"{self._net}.{number + 1}"


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
