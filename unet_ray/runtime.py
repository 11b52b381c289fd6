"""Connecting to Ray, having a cluster grow, and what it has. Runs on the driver."""

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from unet_ray import access
from unet_ray.config import ScalingSection
from unet_ray.errors import ResourceError, UnetRayError
from unet_ray.resources import Node, Resources, divide_for_prediction, divide_for_training, name_labels, this_machine

if TYPE_CHECKING:
    from ray.util.placement_group import PlacementGroup

logger = logging.getLogger(__name__)

KEEP_HEAP = {
    "MALLOC_MMAP_THRESHOLD_": str(8 * 2**30),
    "MALLOC_TRIM_THRESHOLD_": str(16 * 2**30),
    "MALLOC_ARENA_MAX": "1",  # the arenas of other threads, such as Ray Train's, ignore the two above
}
"""Environment of processes that run a network on a CPU: glibc keeps freed activations instead of returning them to
the kernel, which about doubles the speed. It works only when set before the process starts."""

_RAY_ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # how soon the end of a worker is noticed, good or bad
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # train workers keep the driver's working directory
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",  # we log our own
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # its warnings are about Ray's inside
}
_JOINING_ENVIRONMENT = {
    "RAY_NUM_REDIS_GET_RETRIES": "5",  # seconds: something answers at the address, and a wrong token stays wrong
}
_LOOK_EVERY_S = 5.0
OBJECT_STORE_BYTES = 2 * 2**30
"""Shared memory of a cluster of our own on this machine."""


@contextmanager
def connected(meanwhile: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Connect to the cluster of ``RAY_ADDRESS`` or of the submitted job, or start one on this machine.

    Args:
        meanwhile: What to do while Ray starts, such as imports.

    Raises:
        ResourceError: There is no such cluster, or no token guards it (see `access`).
    """
    access.check_address(os.environ)
    for name, value in (_RAY_ENVIRONMENT | (_JOINING_ENVIRONMENT if _may_grow() else {})).items():
        os.environ.setdefault(name, value)
    import ray
    import ray.data

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # importing it set a level of its own
    if not _may_grow():
        access.make_token(os.environ)
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # nobody takes this machine away
        options |= {
            "address": "local",
            "num_cpus": this_machine().cpus,
            "object_store_memory": OBJECT_STORE_BYTES,
            "include_dashboard": False,
        }
    # On the main thread, ray.init would take SIGTERM for itself. The thread stays: its end would kill the raylet.
    with ThreadPoolExecutor(max_workers=1) as aside:
        try:
            try:
                started = aside.submit(_start, options)
                meanwhile()
                started.result()
            except Exception as error:  # as which Ray raises that it was too slow
                why = _why_not_connected(error)
                if why is None:
                    raise
                raise ResourceError(why) from error
            yield
        finally:
            ray.shutdown()


def _why_not_connected(error: Exception) -> str | None:
    """Return why a cluster could not be started or joined and what to do, None where the error is another one."""
    text = " ".join(str(error).split())
    if "timed out during startup" in text:
        return (
            "Ray did not start on this machine within the 30 s that it takes at most: too much else runs here, or "
            "memory or disk are short (unet-ray doctor looks at both); run the same command again"
        )
    if text.startswith("Version mismatch"):
        return f"RAY_ADDRESS: {text}; install the cluster's versions here, or start it from this version's image"
    if not isinstance(error, ConnectionError):
        return None
    if "InvalidAuthToken" in str(error.__cause__):
        fix = "put the one that it was started with in ~/.ray/auth_token"
        return f"RAY_ADDRESS: the cluster has another token than ours; {fix}"
    return f"RAY_ADDRESS: {text}; check the address and ~/.ray/auth_token"


def _start(options: Mapping[str, Any]) -> None:
    """Connect, and start the two actors that Ray Data would start, and wait for, when a dataset first runs."""
    import ray
    from ray.data._internal.cluster_autoscaler import get_or_create_autoscaling_coordinator
    from ray.data._internal.stats import get_or_create_stats_actor

    ray.init(**options)
    get_or_create_autoscaling_coordinator()  # type: ignore[no-untyped-call]
    get_or_create_stats_actor()


def gather(scaling: ScalingSection) -> None:
    """Have a cluster grow to ``scaling.cpus`` and ``scaling.gpus``, as far as they are asked for.

    ``scaling.node_labels`` are those of the GPUs, or of the CPUs where no GPU is asked for.

    They are asked for by a placement group, which the end of the driver, however it comes, takes back; and let go as
    soon as they are there, for the job that begins at once.

    Raises:
        ResourceError: They are not there, and free, after ``scaling.wait_s``, or can never be.
    """
    wanted = {"CPU": scaling.cpus or 0, "GPU": scaling.gpus or 0}
    if not any(wanted.values()):
        return
    from ray.util import placement_group, remove_placement_group

    labels = scaling.node_labels if scaling.node_labels and _may_grow() else {}
    what = " and ".join(f"{count} {name}s" for name, count in wanted.items() if count)
    what += f" on nodes with {name_labels(labels)}" if labels else ""
    have = _total()
    if any(have[name] < count for name, count in wanted.items()) and not _may_grow():
        raise ResourceError(
            f"scaling: {what} are asked for, this machine has {have['CPU']} CPUs and {have['GPU']} GPUs and does not "
            "grow; lower scaling.cpus and scaling.gpus, or run on a cluster"
        )
    names = [name for name, count in wanted.items() for _ in range(count)]
    group = placement_group(
        [{name: 1} for name in names],
        bundle_label_selector=[labels if name == names[-1] else {} for name in names] if labels else None,
    )
    give_up = time.monotonic() + scaling.wait_s
    try:
        logger.info("asking the cluster for %s", what)
        while not group.wait(min(_LOOK_EVERY_S, max(0.0, give_up - time.monotonic()))):
            if _is_hopeless(group):
                raise ResourceError(
                    f"scaling: {what} are more than this cluster may grow to; raise the limits of its groups of nodes, "
                    "or lower scaling.cpus and scaling.gpus"
                )
            if time.monotonic() >= give_up:
                have = _total()
                raise ResourceError(
                    f"scaling.wait_s: {what} were not free after {scaling.wait_s:g} s, the cluster has {have['CPU']} "
                    f"CPUs and {have['GPU']} GPUs; wait for other jobs, or lower scaling.cpus and scaling.gpus"
                )
    finally:
        remove_placement_group(group)


def _is_hopeless(group: "PlacementGroup") -> bool:
    """Tell whether the autoscaler has found that no node it may start helps; only its second version says so."""
    import ray
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply  # type: ignore[attr-defined]

    reply = GetClusterStatusReply.FromString(GcsClient(ray.get_runtime_context().gcs_address).get_cluster_status())
    found = reply.autoscaling_state.infeasible_gang_resource_requests
    return any(group.id.hex() in request.details for request in found)


def _may_grow() -> bool:
    """Tell whether this is a cluster that others started, and not one of our own on this machine."""
    return os.environ.get("RAY_ADDRESS", "") not in ("", "local")


def _total() -> dict[str, int]:
    nodes = _nodes()
    return {"CPU": sum(node.cpus for node in nodes), "GPU": sum(node.gpus for node in nodes)}


def require_cpus(scaling: ScalingSection) -> int:
    """Return the number of CPUs, after `gather`, and refuse a cluster on which a plain task would wait for ever.

    Raises:
        ResourceError: It has no CPU, or not those that are asked for.
    """
    gather(scaling)
    num_cpus = _total()["CPU"]
    if not num_cpus:
        raise ResourceError(
            "the cluster has no CPU for tasks; start a worker node, or a head with --num-cpus, or have a cluster that "
            "grows do so with scaling.cpus"
        )
    return num_cpus


def plan_training(scaling: ScalingSection, share: int = 1) -> Resources:
    """Divide the cluster for training (see `divide`), for a run that gets one of so many shares of every node.

    An elastic run has a worker on each GPU, or on each node without GPUs. It begins with as many as there are now.

    Raises:
        ResourceError: There are too few CPUs, GPUs or nodes, or an elastic run could use up the CPUs of a node.
    """
    gather(scaling)
    nodes = [replace(node, cpus=node.cpus // share, gpus=-(-node.gpus // share)) for node in _labelled(scaling)]
    return divide_for_training(scaling, nodes)


def describe_cluster() -> str:
    """Say what the cluster has."""
    nodes, total = _nodes(), _total()
    return f"{len(nodes)} node(s) with {total['CPU']} CPUs and {total['GPU']} GPUs"


def plan_prediction(scaling: ScalingSection, num_units: int | None = None) -> Resources:
    """Divide the cluster, as it is, for prediction (see `divide_for_prediction`).

    Raises:
        ResourceError: It has too little, or not what is asked for.
    """
    return divide_for_prediction(scaling, _labelled(scaling), num_units)


def _labelled(scaling: ScalingSection) -> list[Node]:
    labels, nodes = scaling.node_labels, _nodes(scaling.node_labels)
    if labels and not any(node.takes_networks for node in nodes):
        raise ResourceError(
            f"scaling.node_labels: none of the cluster's {len(nodes)} node(s) has {name_labels(labels)}; correct it or "
            "leave it out, start such nodes (ray start --labels), or ask a cluster that grows for scaling.gpus"
        )
    return nodes


def _nodes(labels: Mapping[str, str] | None = None) -> list[Node]:
    import ray

    return [
        Node(
            cpus=int(node["Resources"].get("CPU", 0)),
            gpus=int(node["Resources"].get("GPU", 0)),
            takes_networks=(labels or {}).items() <= node["Labels"].items(),
        )
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"]
    ]


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
