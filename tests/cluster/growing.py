"""A Ray cluster on this machine that starts and ends nodes as work comes and goes: a head for drivers, and workers.

Ray's own helper for this ends every Ray on the machine, so the head is started here, with Ray's provider of nodes that
are processes.
"""

import json
import secrets
from pathlib import Path
from typing import Self

import psutil
from ray.util import get_node_ip_address

from tests.nodes import end_node, free_ports, start_node

HEAD_ID = "f" * 51 + "0" * 5
_HEAD = "ray.head.default"  # the provider knows it by this name
IDLE_S = 10
LABELS = {"unet-ray/role": "network"}


class GrowingCluster:
    """From no worker to ``most`` of ``cpus`` each, behind a token; live while its context is entered.

    Workers are of two kinds: those with `LABELS`, and others.
    """

    def __init__(self, folder: Path, *, cpus: int, most: int) -> None:
        self._folder, self._cpus, self._most = folder, cpus, most

    def __enter__(self) -> Self:
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        port, *others = free_ports(4)
        address = f"{get_node_ip_address()}:{port}"
        config = self._folder / "autoscaling.json"
        config.write_text(json.dumps(self._config(address)))
        self._head = start_node(
            "--head", "--num-cpus=0", f"--port={port}", f"--dashboard-port={others[0]}",
            f"--dashboard-agent-listen-port={others[1]}", f"--metrics-export-port={others[2]}",
            f"--autoscaling-config={config}",
            environment=token | {
                "RAY_FAKE_CLUSTER": "1",
                "AUTOSCALER_UPDATE_INTERVAL_S": "1",
                "RAY_enable_autoscaler_v2": "1",
                "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
                "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
                "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
            },
        )  # fmt: skip
        self.environment = {"RAY_ADDRESS": address, **token}
        return self

    def __exit__(self, *_: object) -> None:
        for process in (*self._raylets(), self._head):
            end_node(process)

    def workers(self) -> int:
        """Return how many nodes beside the head are running: their raylets, which the head does not own."""
        return len(self._raylets()) - 1

    def labelled(self) -> int:
        """Return how many of them have `LABELS`."""
        words = json.dumps(LABELS)[1:-1]
        return sum(words in " ".join(one.info["cmdline"] or []) for one in self._raylets())

    def _raylets(self) -> list[psutil.Process]:
        address = self.environment["RAY_ADDRESS"]
        found = psutil.process_iter(["name", "cmdline"])
        return [
            one
            for one in found
            if one.info["name"] == "raylet" and f"--gcs-address={address}" in " ".join(one.info["cmdline"] or [])
        ]

    def _config(self, address: str) -> dict[str, object]:
        worker = {"resources": {"CPU": self._cpus}, "node_config": {}, "min_workers": 0, "max_workers": self._most}
        kinds = {
            _HEAD: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "any": worker,
            "network": worker | {"labels": LABELS},
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
