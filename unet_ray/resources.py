"""Dividing what a cluster has between the network and the data tasks: arithmetic, which needs no cluster."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from unet_ray.config import ScalingSection
from unet_ray.errors import ResourceError

_LOCAL_CPUS = 4  # logical CPUs a laptop declares at least: with 2, trainers or actors can starve the data tasks
_DATA_SHARE = 0.25  # of CPUs, where networks run on CPUs too
_UNITS_PER_PREDICTOR = 16  # as many as take as long as it takes to start, where the network is narrow
_MOST_CPUS_BESIDE_GPU = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Resources:
    """What runs where: ``num_networks`` processes on ``device``, each with its CPUs and threads, and data tasks.

    As many as ``spare_networks`` more may start while data tasks leave CPUs idle. ``sharers`` processes have a GPU
    together. With ``node_labels``, all of them run on nodes that have these.
    """

    device: Literal["cpu", "gpu"]
    num_networks: int
    cpus_per_network: int
    threads_per_network: int
    data_cpus: int
    spare_networks: int = 0
    sharers: int = 1
    node_labels: dict[str, str] | None = None

    def __str__(self) -> str:
        """Say who has what, in a line."""
        gpu = "a GPU" if self.sharers == 1 else f"1/{self.sharers} of a GPU"
        each = f"{self.cpus_per_network} CPU(s)" + (f" and {gpu}" if self.device == "gpu" else "")
        more = f", up to {self.spare_networks} more while those are idle" if self.spare_networks else ""
        where = f"on nodes with {name_labels(self.node_labels)}, " if self.node_labels else ""
        return (
            f"{self.num_networks} process(es) with the network, {where}each with {each} and {self.threads_per_network} "
            f"thread(s), {self.data_cpus} CPU(s) for data tasks{more}"
        )

    @property
    def units_in_hand(self) -> int:
        """How many units a predictor has in hand: one that it infers, others that it describes meanwhile."""
        return 2 if self.device == "cpu" else max(2, self.cpus_per_network)


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """What one machine of the cluster declares, and whether it has ``scaling.node_labels``."""

    cpus: int
    gpus: int = 0
    takes_networks: bool = True


def name_labels(labels: Mapping[str, str]) -> str:
    """Return labels as they are written in a configuration."""
    return ", ".join(f"{key}: {value}" for key, value in labels.items())


def this_machine(gpus: int = 0) -> Node:
    """Return what a cluster of our own on this machine declares."""
    return Node(cpus=max(_LOCAL_CPUS, os.cpu_count() or 1), gpus=gpus)


def divide_for_training(scaling: ScalingSection, nodes: Sequence[Node]) -> Resources:
    """Divide nodes as `plan_training` says."""
    key, (fewest, most) = "scaling.num_workers", scaling.workers
    if fewest == most:
        return divide(scaling, most, key, nodes)
    if _device(scaling, sum(node.gpus for node in nodes)) == "gpu":
        places = sum(min(node.cpus, node.gpus) for node in nodes)
        return divide(scaling, max(fewest, min(places, most)), key, nodes)
    sizes = sorted(node.cpus for node in nodes if node.cpus)
    each = sizes[0] - max(1, sizes[0] // 4) if sizes else 0
    if not each or any(size % each == 0 for size in sizes):
        found = f"nodes of {', '.join(map(str, sizes))}" if sizes else "none"
        raise ResourceError(
            f"{key}: from {fewest} to {most} workers need nodes of one size, of 3 CPUs at least, so that each has some "
            f"left for data tasks; the cluster has {found}; give one number, or other nodes"
        )
    networks = min(most, sum(size // each for size in sizes))
    if networks < fewest:
        raise ResourceError(
            f"{key}: {fewest} workers need a node each, the cluster has {len(sizes)}; lower it or add nodes"
        )
    return Resources(
        device="cpu",
        num_networks=networks,
        cpus_per_network=each,
        threads_per_network=max(1, min(each, _real_cores(sum(sizes)) // networks)),
        data_cpus=sum(sizes) - networks * each,
    )


def divide_for_prediction(scaling: ScalingSection, nodes: Sequence[Node], num_units: int | None = None) -> Resources:
    """Divide nodes; without ``scaling.predictors``, there is one per GPU, or one for each core that data tasks leave.

    More predictors than GPUs share them.

    On CPUs many networks of one thread are faster than few of many, which wait for each other at every layer. Each
    takes seconds to start, so a job of few units, if their number is known, has fewer, of more threads.

    Beside a GPU, where masks are counted while the next ones are made, a predictor has up to four CPUs, as long as the
    data tasks keep half of all.
    """
    hosts = _hosts(nodes)
    cpus, gpus = sum(node.cpus for node in nodes), sum(node.gpus for node in hosts)
    most = sum(node.cpus for node in hosts)
    wanted = scaling.predictors
    if wanted is None:
        wanted = gpus if _device(scaling, gpus) == "gpu" else min(most, _predictors(cpus, num_units, _DATA_SHARE))
    sharers = -(-wanted // gpus) if gpus else 1
    nodes = [replace(node, gpus=node.gpus * sharers) for node in nodes]
    found = divide(scaling, wanted, "scaling.predictors", nodes)
    if found.device == "cpu":
        spare = 0 if scaling.predictors else min(most, _predictors(cpus, num_units, data_share=0)) - wanted
        return replace(found, spare_networks=spare)
    each = min(_MOST_CPUS_BESIDE_GPU, max(1, cpus // (2 * wanted)))
    while sum(min(node.cpus // each, node.gpus) for node in _hosts(nodes)) < wanted:
        each -= 1
    return replace(found, cpus_per_network=each, data_cpus=cpus - wanted * each, sharers=sharers)


def _predictors(cpus: int, num_units: int | None, data_share: float) -> int:
    """Return how many predictors a job of so many units has on CPUs of which data tasks take a share."""
    cores = max(1, min(round((1 - data_share) * _real_cores(cpus)), cpus - 1))
    return cores if num_units is None else min(cores, max(1, num_units // _UNITS_PER_PREDICTOR))


def divide(scaling: ScalingSection, networks: int, key: str, nodes: Sequence[Node]) -> Resources:
    """Divide nodes between ``networks`` processes, each on one node, and the data tasks, which get a CPU at least.

    Raises:
        ResourceError: There are too few CPUs or GPUs, naming ``key`` and the numbers.
    """
    hosts = _hosts(nodes)
    cpus, gpus = sum(node.cpus for node in nodes), sum(node.gpus for node in hosts)
    most = sum(node.cpus for node in hosts)
    there = _there(scaling)
    device = _device(scaling, gpus)
    if device == "gpu" and networks > gpus:
        raise ResourceError(f"{key}: {networks} need {networks} GPUs, {there} {gpus}; lower it or add GPUs")
    if networks > cpus - 1:
        fix = "lower it" if networks > 1 and cpus > 1 else "add CPUs"
        raise ResourceError(
            f"{key}: {networks} need {networks + 1} CPUs with the data tasks, the cluster has {cpus}; {fix}"
        )
    if networks > most:
        raise ResourceError(f"{key}: {networks} need a CPU each, {there} {most}; lower it or add such nodes")
    if device == "gpu" and networks > (places := sum(min(node.cpus, node.gpus) for node in hosts)):
        raise ResourceError(
            f"{key}: {networks} need a CPU beside each GPU, {there} {places} such pairs; lower it or add CPUs"
        )
    for_data = max(1, int(_DATA_SHARE * cpus), cpus - most)
    data_cpus = min(for_data, cpus - networks) if device == "cpu" else cpus - networks
    share = 1 if device == "gpu" else (cpus - data_cpus) // networks
    each = next(each for each in range(share, 0, -1) if sum(node.cpus // each for node in hosts) >= networks)
    threads = max(1, min(each, _real_cores(cpus) // networks))
    return Resources(
        device=device,
        num_networks=networks,
        cpus_per_network=each,
        threads_per_network=threads,
        data_cpus=data_cpus,
        node_labels=scaling.node_labels,
    )


def _hosts(nodes: Sequence[Node]) -> list[Node]:
    return [node for node in nodes if node.takes_networks]


def _there(scaling: ScalingSection) -> str:
    """Return the beginning of a sentence on where networks may run."""
    return f"the nodes with {name_labels(scaling.node_labels)} have" if scaling.node_labels else "the cluster has"


def _device(scaling: ScalingSection, gpus: int) -> Literal["cpu", "gpu"]:
    if scaling.device == "auto":
        return "gpu" if gpus else "cpu"
    if scaling.device == "gpu" and not gpus:
        raise ResourceError(f"scaling.device: gpu, but {_there(scaling)} no GPU; use auto or cpu, or add a GPU node")
    return scaling.device


def _real_cores(cpus: int) -> int:
    """Return the cores behind logical CPUs: only a small machine of our own declares more than it has."""
    return min(cpus, os.cpu_count() or 1) if cpus <= _LOCAL_CPUS else cpus
