import pytest

from unet_ray.config import ScalingSection
from unet_ray.errors import ConfigError, ResourceError
from unet_ray.resources import Node, Resources, divide, divide_for_prediction, divide_for_training, this_machine

KEY = "scaling.num_workers"


def cluster(*cpus: int) -> list[Node]:
    return [Node(cpus=number) for number in cpus]


def with_gpus(*cpus_and_gpus: tuple[int, int]) -> list[Node]:
    return [Node(cpus=cpus, gpus=gpus) for cpus, gpus in cpus_and_gpus]


@pytest.mark.parametrize(
    ("networks", "nodes", "each", "data_cpus"),
    [
        (1, cluster(2), 1, 1),
        (1, cluster(16), 12, 4),
        (2, cluster(16), 6, 4),
        (3, cluster(4), 1, 1),
        (1, cluster(8, 8), 8, 4),
        (2, cluster(3, 3), 2, 1),
        (2, cluster(2, 1, 1, 1, 1), 1, 1),
        (4, cluster(5, 5), 2, 2),
        (1, cluster(1, 1), 1, 1),
    ],
)
def test_networks_fit_on_whole_nodes_beside_the_data_tasks(
    networks: int, nodes: list[Node], each: int, data_cpus: int
) -> None:
    found = divide(ScalingSection(), networks, KEY, nodes)
    assert (found.device, found.num_networks) == ("cpu", networks)
    assert (found.cpus_per_network, found.data_cpus) == (each, data_cpus)
    assert sum(node.cpus // each for node in nodes) >= networks
    assert networks * each < sum(node.cpus for node in nodes)
    assert 1 <= found.threads_per_network <= each


def test_a_gpu_network_takes_one_cpu_and_the_data_tasks_the_rest() -> None:
    found = divide(ScalingSection(), 3, KEY, with_gpus((8, 2), (8, 1), (4, 0)))
    assert found == Resources(
        device="gpu", num_networks=3, cpus_per_network=1, threads_per_network=1, data_cpus=17
    )  # fmt: skip


@pytest.mark.parametrize(
    ("scaling", "networks", "nodes", "message"),
    [
        ({}, 1, [], "1 need 2 CPUs with the data tasks, the cluster has 0; add CPUs"),
        ({}, 1, cluster(1), "1 need 2 CPUs with the data tasks, the cluster has 1; add CPUs"),
        ({}, 2, cluster(2), "2 need 3 CPUs with the data tasks, the cluster has 2; lower it"),
        ({}, 9, cluster(4, 4), "9 need 10 CPUs with the data tasks, the cluster has 8; lower it"),
        ({}, 3, with_gpus((8, 2)), "3 need 3 GPUs, the cluster has 2; lower it or add GPUs"),
        ({}, 2, with_gpus((1, 2), (4, 0)), "2 need a CPU beside each GPU, the cluster has 1 such pairs; lower it"),
    ],
)
def test_a_cluster_that_is_too_small_is_refused_with_the_numbers(
    scaling: dict[str, str], networks: int, nodes: list[Node], message: str
) -> None:
    with pytest.raises(ResourceError) as caught:
        divide(ScalingSection(**scaling), networks, KEY, nodes)
    assert str(caught.value).startswith(f"{KEY}: {message}")


def test_a_gpu_that_is_not_there_is_refused_and_auto_does_without() -> None:
    with pytest.raises(ResourceError, match=r"^scaling\.device: gpu, but the cluster has no GPU; use auto or cpu"):
        divide(ScalingSection(device="gpu"), 1, KEY, cluster(4))
    assert divide(ScalingSection(), 1, KEY, cluster(4)).device == "cpu"
    assert divide(ScalingSection(device="cpu"), 1, KEY, with_gpus((4, 1))).device == "cpu"


@pytest.mark.parametrize(
    ("workers", "nodes", "networks", "each", "data_cpus"),
    [
        ((1, 4), cluster(4), 1, 3, 1),
        ((1, 4), cluster(3, 3), 2, 2, 2),
        ((2, 4), cluster(8, 8, 8, 8, 8), 4, 6, 16),
        ((1, 9), cluster(0, 16, 16), 2, 12, 8),
        ((2, 3), with_gpus((8, 2), (8, 2)), 3, 1, 13),
        ((1, 8), with_gpus((8, 1), (8, 0)), 1, 1, 15),
        ((1, 1), cluster(2), 1, 1, 1),
    ],
)
def test_an_elastic_run_begins_with_as_many_workers_as_there_is_room_for(
    workers: tuple[int, int], nodes: list[Node], networks: int, each: int, data_cpus: int
) -> None:
    found = divide_for_training(ScalingSection(num_workers=workers), nodes)
    assert (found.num_networks, found.cpus_per_network, found.data_cpus) == (networks, each, data_cpus)
    assert 1 <= found.threads_per_network <= each
    if found.device == "cpu":  # however many workers come, data tasks keep a CPU of every node that works
        assert all(node.cpus % each for node in nodes if node.cpus and workers != (1, 1))


@pytest.mark.parametrize(
    ("workers", "nodes", "message"),
    [
        (
            (1, 2),
            cluster(2),
            "scaling.num_workers: from 1 to 2 workers need nodes of one size, .* has nodes of 2;",
        ),
        ((1, 2), [], "of 3 CPUs at least, so that each has some left for data tasks; the cluster has none; give one"),
        ((1, 9), cluster(4, 6), "the cluster has nodes of 4, 6; give one number, or other nodes"),
        ((3, 4), cluster(4, 4), "scaling.num_workers: 3 workers need a node each, the cluster has 2; lower it or add"),
        ((3, 4), with_gpus((8, 2)), "scaling.num_workers: 3 need 3 GPUs, the cluster has 2; lower it or add GPUs"),
    ],
)
def test_a_cluster_without_room_for_an_elastic_run_is_refused(
    workers: tuple[int, int], nodes: list[Node], message: str
) -> None:
    with pytest.raises(ResourceError, match=message):
        divide_for_training(ScalingSection(num_workers=workers), nodes)


@pytest.mark.parametrize(
    ("nodes", "cpus_per_network", "data_cpus", "in_hand"),
    [
        (with_gpus((16, 1)), 4, 12, 4),
        (with_gpus((64, 8)), 4, 32, 4),
        (with_gpus((16, 4)), 2, 8, 2),
        (with_gpus((4, 2), (28, 0)), 2, 28, 2),  # of many CPUs, few beside the GPUs
        (with_gpus((2, 1)), 1, 1, 2),
        (cluster(16), 1, 4, 2),
        (cluster(1, 1), 1, 1, 2),
    ],
)
def test_a_predictor_has_cpus_to_count_with_beside_its_gpu(
    nodes: list[Node], cpus_per_network: int, data_cpus: int, in_hand: int
) -> None:
    found = divide_for_prediction(ScalingSection(), nodes)
    assert (found.cpus_per_network, found.data_cpus, found.units_in_hand) == (cpus_per_network, data_cpus, in_hand)


@pytest.mark.parametrize(
    ("nodes", "num_units", "networks", "threads", "spare"),
    [
        (cluster(16), None, 12, 1, 3), (cluster(16), 10_000, 12, 1, 3), (cluster(16), 64, 4, 3, 0),
        (cluster(16), 3, 1, 12, 0), (cluster(8, 8), 1000, 12, 1, 3), (cluster(2), None, 1, 1, 0),
        (cluster(64), 100_000, 48, 1, 15),
    ],
)  # fmt: skip
def test_cpus_that_data_tasks_leave_have_a_predictor_each_unless_the_job_is_short(
    nodes: list[Node], num_units: int | None, networks: int, threads: int, spare: int
) -> None:
    found = divide_for_prediction(ScalingSection(), nodes, num_units)
    assert (found.num_networks, found.threads_per_network, found.spare_networks) == (networks, threads, spare)
    assert divide_for_prediction(ScalingSection(predictors=2), cluster(16), num_units).spare_networks == 0


@pytest.mark.parametrize(("cores", "num_units", "networks", "threads"), [(2, 500, 2, 1), (2, 20, 1, 2), (1, 500, 1, 1)])
def test_a_small_machine_has_no_more_predictors_than_cores(
    cores: int, num_units: int, networks: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unet_ray.resources.os.cpu_count", lambda: cores)
    found = divide_for_prediction(ScalingSection(), [this_machine()], num_units)
    assert (found.num_networks, found.threads_per_network, found.spare_networks) == (networks, threads, 0)


def test_a_division_reads_as_a_line() -> None:
    nodes = [Node(cpus=16, gpus=1)] * 4
    assert str(divide_for_prediction(ScalingSection(), nodes)) == (
        "4 process(es) with the network, each with 4 CPU(s) and a GPU and 1 thread(s), 48 CPU(s) for data tasks"
    )
    assert str(divide_for_prediction(ScalingSection(), [Node(cpus=16)])) == (
        "12 process(es) with the network, each with 1 CPU(s) and 1 thread(s), 4 CPU(s) for data tasks, up to 3 more "
        "while those are idle"
    )


def test_more_predictors_than_gpus_share_them() -> None:
    nodes = [Node(cpus=16, gpus=1), Node(cpus=16)]
    found = divide_for_prediction(ScalingSection(predictors=3), nodes)
    assert (found.device, found.num_networks, found.sharers) == ("gpu", 3, 3)
    assert (found.cpus_per_network, found.data_cpus) == (4, 20)
    assert "each with 4 CPU(s) and 1/3 of a GPU" in str(found)
    assert divide_for_prediction(ScalingSection(predictors=3), [Node(cpus=16, gpus=2)]).sharers == 2
    assert divide_for_prediction(ScalingSection(), nodes).sharers == 1
    with pytest.raises(ResourceError, match=r"^scaling.predictors: 5 need a CPU beside each GPU, the cluster has 4"):
        divide_for_prediction(ScalingSection(predictors=5), [Node(cpus=4, gpus=1), Node(cpus=16)])


LABELS = {"unet-ray/role": "network"}
LABELLED = ScalingSection(node_labels=LABELS)


@pytest.mark.parametrize(
    ("others", "each", "data_cpus"),
    [([16], 8, 16), ([2], 8, 2), ([], 6, 2), ([0], 6, 2)],
)
def test_networks_stay_on_labelled_nodes_and_data_tasks_take_the_others(
    others: list[int], each: int, data_cpus: int
) -> None:
    nodes = [Node(cpus=8), *(Node(cpus=cpus, gpus=2, takes_networks=False) for cpus in others)]
    found = divide(LABELLED, 1, KEY, nodes)
    assert (found.device, found.cpus_per_network, found.data_cpus) == ("cpu", each, data_cpus)
    assert found.node_labels == LABELS
    assert "1 process(es) with the network, on nodes with unet-ray/role: network, each with" in str(found)


def test_labelled_gpus_are_the_only_ones() -> None:
    nodes = [Node(cpus=8, gpus=2), Node(cpus=16, gpus=4, takes_networks=False)]
    assert divide_for_prediction(LABELLED, nodes).num_networks == 2
    found = divide_for_training(ScalingSection(node_labels=LABELS, num_workers=2), nodes)
    assert (found.num_networks, found.data_cpus, found.node_labels) == (2, 22, LABELS)
    with pytest.raises(ResourceError, match=r"3 need 3 GPUs, the nodes with unet-ray/role: network have 2; lower it"):
        divide(LABELLED, 3, KEY, nodes)
    with pytest.raises(ResourceError, match=r"gpu, but the nodes with unet-ray/role: network have no GPU; use auto"):
        divide(ScalingSection(device="gpu", node_labels=LABELS), 1, KEY, [Node(cpus=8), *nodes[1:]])


def test_labelled_cpus_bound_predictors() -> None:
    nodes = [Node(cpus=4), Node(cpus=60, takes_networks=False)]
    found = divide_for_prediction(LABELLED, nodes)
    assert (found.num_networks, found.spare_networks, found.cpus_per_network, found.data_cpus) == (4, 0, 1, 60)
    with pytest.raises(ResourceError, match=r"^scaling.predictors: 5 need a CPU each, the nodes with .* have 4; lower"):
        divide_for_prediction(ScalingSection(predictors=5, node_labels=LABELS), nodes)


@pytest.mark.parametrize("labels", [{"role": "!gpu"}, {"role": "in(a, b)"}, {"role": ""}, {"": "a"}, {"a b": "c"}])
def test_what_is_no_label_is_refused(labels: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"^scaling\.node_labels: must be labels of nodes and their values, in Kuber"):
        ScalingSection(node_labels=labels)


def test_labels_are_refused_where_ray_would_count_other_nodes() -> None:
    with pytest.raises(ConfigError, match=r"^scaling\.node_labels: must be null where scaling\.num_workers is two"):
        ScalingSection(node_labels=LABELS, num_workers=(1, 3))
