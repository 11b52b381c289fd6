"""Start a real S3 server for the tests.

In this order: the one that ``UNET_RAY_TEST_S3_ENDPOINT`` names, with the ``AWS_*`` keys of the caller; a Ceph
RADOS Gateway over one in-memory storage daemon, where the Debian packages ``radosgw``, ``ceph-mon`` and
``ceph-osd`` are installed; the moto server, which runs anywhere but checks no credentials.
"""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

_DEADLINE_S = 120
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1

_CEPH_CONF = """\
[global]
fsid = {fsid}
mon_host = v1:127.0.0.1:{mon_port}
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
run_dir = {folder}
admin_socket =
pid_file =
crash_dir = {folder}
log_file = {folder}/$name.log
mon_cluster_log_file = {folder}/cluster.log
mon_data = {folder}/mon
mon_data_avail_warn = 1
mon_data_avail_crit = 1
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 1000
paxos_propose_interval = 0.05
osd_data = {folder}/osd
osd_objectstore = memstore
memstore_device_bytes = 4294967296
osd_memory_target = 939524096
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pgp_num = 8
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
# An OSD that reports its place itself may do so before it knows the cluster, and dies.
osd_crush_update_on_start = false
osd_class_update_on_start = false
[client.rgw.test]
# Without tcp_nodelay each small read of pyarrow takes 40 ms longer.
rgw_frontends = beast endpoint={host}:{port} tcp_nodelay=1
rgw_thread_pool_size = 64
rgw_run_sync_thread = false
"""


@dataclass(frozen=True, kw_only=True)
class S3Server:
    """A running server; ``kind`` is "external", "rgw" or "moto". Processes are in the order to stop them."""

    endpoint: str
    access_key: str
    secret_key: str
    kind: str
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)


def start(folder: Path, host: str = "127.0.0.1") -> S3Server:
    """Start a server that keeps its files in an empty folder; it dies with this process at the latest.

    Call it from the main thread: a server dies with the thread that started it.

    Args:
        folder: Where its files are.
        host: The address of this machine at which it answers.
    """
    endpoint = os.environ.get("UNET_RAY_TEST_S3_ENDPOINT")
    if endpoint:
        keys = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
        return S3Server(endpoint=endpoint, access_key=keys[0], secret_key=keys[1], kind="external")
    if all(map(shutil.which, ("radosgw", "radosgw-admin", "ceph", "ceph-mon", "ceph-osd", "monmaptool"))):
        return _start_rgw(folder, host)
    return _start_moto(folder, host)


def stop(server: S3Server) -> None:
    """Kill the server, which has nothing on disk that is worth a flush."""
    for process in server.processes.values():
        process.kill()
        process.wait()


def _start_rgw(folder: Path, host: str) -> S3Server:
    port, mon_port, fsid, osd = _free_port(), _free_port(), str(uuid.uuid4()), str(uuid.uuid4())
    access_key, secret_key = "tester", uuid.uuid4().hex
    (folder / "mon").mkdir()
    (folder / "osd").mkdir()
    conf, monmap = folder / "ceph.conf", folder / "monmap"
    conf.write_text(_CEPH_CONF.format(folder=folder, fsid=fsid, host=host, port=port, mon_port=mon_port))

    def run(*command: str, tries: int = 1) -> str:
        return _run(folder, *command, "-c", str(conf), tries=tries)

    def serve(*command: str) -> subprocess.Popen[bytes]:
        return _serve(folder, *command, "-f", "-c", str(conf))

    mon_address = f"[v1:127.0.0.1:{mon_port}]"
    _run(folder, "monmaptool", "--create", "--addv", "m", mon_address, "--fsid", fsid, str(monmap))
    run("ceph-mon", "--mkfs", "-i", "m", "--monmap", str(monmap))
    mon = serve("ceph-mon", "-i", "m")
    # Both commands may be repeated, and a monitor that is just up refuses one now and then.
    run("ceph", "--connect-timeout", "20", "osd", "create", osd, tries=5)
    run("ceph", "osd", "crush", "add", "osd.0", "1.0", "root=default", "host=localhost", tries=5)
    run("ceph-osd", "--mkfs", "-i", "0", "--osd-uuid", osd)
    osd_process = serve("ceph-osd", "-i", "0")
    _wait(lambda: "1 up" in run("ceph", "osd", "stat", tries=5), osd_process, folder)
    user = (
        "--uid=tester",
        "--display-name=tester",
        f"--access-key={access_key}",
        f"--secret-key={secret_key}",
    )
    run("radosgw-admin", "user", "create", *user)
    rgw = serve("radosgw", "-n", "client.rgw.test")
    _wait(lambda: _listens(port, host), rgw, folder)
    return S3Server(
        endpoint=f"http://{host}:{port}",
        access_key=access_key,
        secret_key=secret_key,
        kind="rgw",
        processes={"radosgw": rgw, "ceph-osd": osd_process, "ceph-mon": mon},
    )


def _start_moto(folder: Path, host: str) -> S3Server:
    port = _free_port()
    moto = _serve(folder, sys.executable, "-m", "moto.server", "-H", host, "-p", str(port))
    _wait(lambda: _listens(port, host), moto, folder)
    return S3Server(
        endpoint=f"http://{host}:{port}",
        access_key="tester",
        secret_key=uuid.uuid4().hex,
        kind="moto",
        processes={"moto": moto},
    )


def _run(folder: Path, *command: str, tries: int = 1) -> str:
    for _ in range(tries):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_DEADLINE_S, check=False)
        if done.returncode == 0:
            return done.stdout
        time.sleep(0.1)
    raise RuntimeError(f"{' '.join(command[:3])} failed: {done.stdout}{done.stderr}")


def _serve(folder: Path, *command: str) -> subprocess.Popen[bytes]:
    with (folder / "servers.log").open("ab") as log:
        return subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=log, start_new_session=True, preexec_fn=_die_with_parent
        )


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _wait(ready: Callable[[], bool], process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            log = (folder / "servers.log").read_text(errors="replace")
            raise RuntimeError(f"the S3 server did not start; the end of its log:\n{log[-2000:]}")
        time.sleep(0.05)


def _listens(port: int, host: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
