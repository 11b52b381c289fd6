"""A Ray cluster on this machine that starts and ends nodes as work comes and goes: a head for drivers, and workers.

Ray's own helper for this ends every Ray on the machine, so the head is started here, with Ray's provider of nodes that
are processes.
"""

import json
import os
import secrets
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
from ray.util import get_node_ip_address

HEAD_ID = "f" * 51 + "0" * 5
_HEAD = "ray.head.default"  # the provider knows it by this name
IDLE_S = 10


class GrowingCluster:
    """From no worker to ``most`` of ``cpus`` each, behind a token; live while its context is entered."""

    def __init__(self, folder: Path, *, cpus: int, most: int) -> None:
        self._folder, self._cpus, self._most = folder, cpus, most

    def __enter__(self) -> Self:
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        port, *others = free_ports(4)
        address = f"{get_node_ip_address()}:{port}"
        config = self._folder / "autoscaling.json"
        config.write_text(json.dumps(self._config(address)))
        self._head = psutil.Popen(
            [
                str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--disable-usage-stats",
                "--num-cpus=0", f"--port={port}", f"--dashboard-port={others[0]}",
                f"--dashboard-agent-listen-port={others[1]}", f"--metrics-export-port={others[2]}",
                f"--object-store-memory={256 * 2**20}", f"--autoscaling-config={config}",
            ],
            env=os.environ | token | {
                "RAY_FAKE_CLUSTER": "1",
                "AUTOSCALER_UPDATE_INTERVAL_S": "1",
                "RAY_enable_autoscaler_v2": "1",
                "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
                "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
                "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
            },
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.environment = {"RAY_ADDRESS": address, **token}
        said = []
        for line in self._head.stdout:
            said.append(line)
            if "Ray runtime started" in line:
                threading.Thread(target=self._head.stdout.read, daemon=True).start()
                return self
        raise RuntimeError("".join(said))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in (*self._raylets(), *self._head.children(recursive=True), self._head):
            for one in (process, *children(process)):
                with suppress(psutil.NoSuchProcess):
                    one.kill()

    def workers(self) -> int:
        """Return how many nodes beside the head are running: their raylets, which the head does not own."""
        return len(self._raylets()) - 1

    def _raylets(self) -> list[psutil.Process]:
        address = self.environment["RAY_ADDRESS"]
        found = psutil.process_iter(["name", "cmdline"])
        return [
            one
            for one in found
            if one.info["name"] == "raylet" and f"--gcs-address={address}" in " ".join(one.info["cmdline"] or [])
        ]

    def _config(self, address: str) -> dict[str, object]:
        kinds = {
            _HEAD: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "cpu": {"resources": {"CPU": self._cpus}, "node_config": {}, "min_workers": 0, "max_workers": self._most},
        }
        return {
            "cluster_name": "growing",
            "max_workers": self._most,
            "upscaling_speed": 10,
            "idle_timeout_minutes": IDLE_S / 60,
            "provider": {
                "type": "external",
                "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
                "gcs_address": address,
                "launch_multiple": True,
                "head_node_id": HEAD_ID,
            },
            "auth": {},
            "docker": {},
            "initialization_commands": [], "setup_commands": [], "head_setup_commands": [],
            "worker_setup_commands": [], "head_start_ray_commands": [], "worker_start_ray_commands": [],
            "file_mounts": {}, "cluster_synced_files": [], "file_mounts_sync_continuously": False,
            "rsync_exclude": [], "rsync_filter": [],
            "available_node_types": kinds,
            "head_node_type": _HEAD,
        }  # fmt: skip


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []
