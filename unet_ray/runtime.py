"""Connecting to Ray and dividing what the cluster has between the network and the data tasks. Runs on the driver."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from unet_ray.config import ScalingSection
from unet_ray.errors import ResourceError, UnetRayError

KEEP_HEAP = {
    "MALLOC_MMAP_THRESHOLD_": str(8 * 2**30),
    "MALLOC_TRIM_THRESHOLD_": str(16 * 2**30),
    "MALLOC_ARENA_MAX": "1",  # the arenas of other threads, such as Ray Train's, ignore the two above
}
"""Environment of processes that run a network on a CPU: glibc keeps freed activations instead of returning them to
the kernel, which about doubles the speed. It works only when set before the process starts."""

_RAY_ENVIRONMENT = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # train workers keep the driver's working directory
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",  # we log our own
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # its warnings are about Ray's inside
}
_LOCAL_CPUS = 4  # logical CPUs a laptop declares at least: with 2, trainers or actors can starve the data tasks
_OBJECT_STORE_BYTES = 2 * 2**30


@dataclass(frozen=True, kw_only=True, slots=True)
class Resources:
    """What runs where: ``num_networks`` processes on ``device``, each with its CPUs and threads, and data tasks."""

    device: Literal["cpu", "gpu"]
    num_networks: int
    cpus_per_network: int
    threads_per_network: int
    data_cpus: int


@contextmanager
def connected() -> Iterator[None]:
    """Connect to the cluster of ``RAY_ADDRESS`` or of the submitted job, or start one on this machine."""
    for name, value in _RAY_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray
    import ray.data

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # importing it set a level of its own
    if os.environ.get("RAY_ADDRESS"):
        ray.init(**quiet)
    else:
        ray.init(
            address="local",
            num_cpus=max(_LOCAL_CPUS, os.cpu_count() or 1),
            object_store_memory=_OBJECT_STORE_BYTES,
            include_dashboard=False,
            **quiet,
        )
    try:
        yield
    finally:
        ray.shutdown()


def plan_training(scaling: ScalingSection) -> Resources:
    """Divide the cluster for training.

    Raises:
        ResourceError: It has too few CPUs or GPUs, naming the numbers.
    """
    return _divide(scaling, scaling.num_workers, "scaling.num_workers")


def plan_prediction(scaling: ScalingSection) -> Resources:
    """Divide the cluster for prediction; without ``scaling.predictors``, one per GPU or per two real cores.

    Raises:
        ResourceError: It has too few CPUs or GPUs, naming the numbers.
    """
    cpus, gpus = _cluster()
    wanted = scaling.predictors
    if wanted is None:
        wanted = gpus if _device(scaling, gpus) == "gpu" else max(1, min(cpus - 2, _real_cores(cpus) // 2))
    return _divide(scaling, wanted, "scaling.predictors")


def _divide(scaling: ScalingSection, networks: int, key: str) -> Resources:
    cpus, gpus = _cluster()
    device = _device(scaling, gpus)
    if device == "gpu" and networks > gpus:
        raise ResourceError(f"{key}: {networks} need {networks} GPUs, the cluster has {gpus}; lower it or add GPUs")
    if networks > cpus - 1:
        raise ResourceError(
            f"{key}: {networks} need {networks + 1} CPUs with the data tasks, the cluster has {cpus}; lower it"
        )
    data_cpus = max(1, cpus // 4) if device == "cpu" else cpus - networks
    each = 1 if device == "gpu" else max(1, min((cpus - data_cpus) // networks, _largest_node()))
    threads = max(1, min(each, _real_cores(cpus) // networks))
    return Resources(
        device=device,
        num_networks=networks,
        cpus_per_network=each,
        threads_per_network=threads,
        data_cpus=data_cpus,
    )


def _device(scaling: ScalingSection, gpus: int) -> Literal["cpu", "gpu"]:
    if scaling.device == "auto":
        return "gpu" if gpus else "cpu"
    if scaling.device == "gpu" and not gpus:
        raise ResourceError("scaling.device: gpu, but the cluster has no GPU; use auto or cpu, or add a GPU node")
    return scaling.device


def _cluster() -> tuple[int, int]:
    import ray

    have: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return int(have.get("CPU", 0)), int(have.get("GPU", 0))


def _largest_node() -> int:
    import ray

    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    return int(max(node["Resources"].get("CPU", 0) for node in nodes if node["Alive"]))


def _real_cores(cpus: int) -> int:
    """Return the cores behind logical CPUs: only a small machine of our own declares more than it has."""
    return min(cpus, os.cpu_count() or 1) if cpus <= _LOCAL_CPUS else cpus


def our_error(error: BaseException) -> UnetRayError | None:
    """Find the error of ours inside what Ray raised, which wraps and chains the causes of failed tasks."""
    seen: set[int] = set()
    queue: list[Any] = [error]
    while queue:
        current = queue.pop(0)
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        if isinstance(current, UnetRayError) and type(current).__module__ == UnetRayError.__module__:
            return current
        failures = getattr(current, "worker_failures", None) or {}
        queue += [getattr(current, name, None) for name in ("cause", "controller_failure", "__cause__", "__context__")]
        queue += failures.values()
    return None
