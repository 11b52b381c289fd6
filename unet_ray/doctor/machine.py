"""This machine: processors, memory, the places that Ray and the network need, GPUs."""

import contextlib
import os
import resource
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from unet_ray.doctor.finding import Finding, ok, problem, warning
from unet_ray.runtime import OBJECT_STORE_BYTES

GIB = 2**30

_SHM = Path("/dev/shm")
_CGROUP = Path("/sys/fs/cgroup")
_DEVICES = Path("/dev")
_ENOUGH_MEMORY = 4 * GIB  # the object store, four processes of 300 MB, the driver
_ENOUGH_FILES = 8192  # what Ray recommends
_ENOUGH_DISK = 10 * GIB
_FULL = 0.95  # from which on Ray starts no task


def check_machine() -> Iterator[Finding]:
    """Yield what is found of this machine."""
    yield _check_cpus()
    yield _check_memory()
    yield _check_object_store()
    yield _check_files()
    yield _check_temporary()
    yield from _check_gpus()


def check_disk(check: str, folder: Path) -> Finding:
    """Return what is found of the disk of a folder that can be written, or will be there."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    told = f"{folder} can be written, {_gib(free)} left"
    return ok(check, told) if free >= _ENOUGH_DISK else warning(check, told, "make room")


def _check_cpus() -> Finding:
    cpus, allowed = os.cpu_count() or 1, _allowed_cpus()
    if allowed < cpus:
        fix = f"RAY_ADDRESS=auto after ray start --head --num-cpus {max(1, int(allowed))}, or Ray counts on all"
        return warning("cpus", f"{cpus}, of which {allowed:g} may be used", fix)
    return ok("cpus", str(cpus))


def _allowed_cpus() -> float:
    """Return how many CPUs the process may use: by its affinity, and by the quota of its container."""
    allowed = float(len(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else float(os.cpu_count() or 1)
    try:
        quota, period = (_CGROUP / "cpu.max").read_text().split()
        return allowed if quota == "max" else min(allowed, int(quota) / int(period))
    except (OSError, ValueError):
        return allowed


def _check_memory() -> Finding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):  # no container, or one without a limit
        total = min(total, int((_CGROUP / "memory.max").read_text()))
    if total <= OBJECT_STORE_BYTES:
        return problem("memory", _gib(total), f"Ray's object store alone takes {_gib(OBJECT_STORE_BYTES)}")
    if total < _ENOUGH_MEMORY:
        return warning("memory", _gib(total), f"{_gib(_ENOUGH_MEMORY)} are enough for a small job")
    return ok("memory", _gib(total))


def _check_object_store() -> Finding:
    if not _SHM.is_dir():
        return ok("object store", f"there is no {_SHM} here; Ray takes the folder of temporary files")
    free = shutil.disk_usage(_SHM).free
    if free >= OBJECT_STORE_BYTES:
        return ok("object store", f"{_SHM} has {_gib(free)} free")
    fix = "start the container with --shm-size=3g, or a pod with an emptyDir of medium Memory there"
    return warning("object store", f"{_SHM} has {_gib(free)} free, Ray takes the slower disk instead", fix)


def _check_files() -> Finding:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)  # Ray raises the other limit to this one
    if most != resource.RLIM_INFINITY and most < _ENOUGH_FILES:
        return warning("open files", f"{most} at most", f"raise the hard limit to {_ENOUGH_FILES}: ulimit -Hn")
    return ok("open files", "unlimited" if most == resource.RLIM_INFINITY else f"{most} at most")


def _check_temporary() -> Finding:
    folder = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return problem("temporary", f"{folder}: {error.strerror}", "set TMPDIR and RAY_TMPDIR to a folder of yours")
    disk = shutil.disk_usage(folder)
    if disk.used > disk.total * _FULL:
        return problem("temporary", f"{folder}: its disk is {disk.used / disk.total:.0%} full, Ray waits", "make room")
    return check_disk("temporary", folder)


def _check_gpus() -> Iterator[Finding]:
    import torch

    here = len([*_DEVICES.glob("nvidia[0-9]*")])
    build = torch.version.cuda or torch.version.hip
    if torch.cuda.is_available():
        yield from map(_check_gpu, range(torch.cuda.device_count()))
    elif not here:
        yield ok("gpu", f"none; torch {torch.__version__}")
    elif build:
        fix = f"the driver must fit CUDA {build}: nvidia-smi tells which it is"
        yield warning("gpu", f"{here} here, of which torch {torch.__version__} can use none", fix)
    else:
        fix = "install a CUDA build: pip install --force-reinstall torch torchvision"
        yield warning("gpu", f"{here} here, but torch {torch.__version__} is built for CPUs", fix)


def _check_gpu(number: int) -> Finding:
    import torch

    told = f"{torch.cuda.get_device_name(number)}, torch {torch.__version__}"
    try:
        torch.ones(1, device=f"cuda:{number}").add(1).item()
        free, total = torch.cuda.mem_get_info(number)
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        return problem(f"gpu {number}", f"{told}: {reason}", "install a torch that is built for it")
    return ok(f"gpu {number}", f"{told}, {_gib(free)} free of {_gib(total)}")


def _gib(size: float) -> str:
    return f"{size / GIB:.1f} GiB"
