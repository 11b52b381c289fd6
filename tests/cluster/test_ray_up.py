"""The files for ``ray up``, held to Ray's own schema and checks, and to what the documentation promises of them."""

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[2]
CLOUDS = ("aws", "gcp")
every_file = pytest.mark.parametrize("name", [*CLOUDS, "local"])
every_cloud = pytest.mark.parametrize("name", CLOUDS)


def read(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / f"cluster/{name}.yaml").read_text())
    return document


def schema() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((Path(ray.__file__).parent / "autoscaler/ray-schema.json").read_text())
    return document


@every_file
def test_ray_takes_the_file(name: str) -> None:
    jsonschema.validate(read(name), schema())
    prepared = prepare_config(copy.deepcopy(read(name)))
    validate_config(prepared)
    assert prepared["cluster_name"] == "unet-ray"


def test_a_misspelt_key_would_be_found() -> None:
    document = read("aws")
    document["available_node_types"]["gpu"]["max_worker"] = document["available_node_types"]["gpu"].pop("max_workers")
    with pytest.raises(jsonschema.ValidationError, match="max_worker"):
        jsonschema.validate(document, schema())


@every_cloud
def test_the_head_runs_drivers_only_and_workers_come_and_go(name: str) -> None:
    kinds = read(name)["available_node_types"]
    assert kinds["head"]["resources"] == {"CPU": 0}
    assert set(kinds) == {"head", "cpu", "gpu"}
    assert all(kinds[kind]["min_workers"] == 0 < kinds[kind]["max_workers"] for kind in ("cpu", "gpu"))
    assert kinds["gpu"]["resources"]["GPU"] == 1
    assert "GPU" not in kinds["cpu"]["resources"]
    assert 0 < read(name)["idle_timeout_minutes"] <= 10


def test_gpus_are_on_spot_capacity_and_the_head_is_not() -> None:
    aws, gcp = (read(name)["available_node_types"] for name in CLOUDS)
    assert aws["gpu"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert {"preemptible": True} in gcp["gpu"]["node_config"]["scheduling"]
    assert "InstanceMarketOptions" not in aws["head"]["node_config"]
    assert "scheduling" not in gcp["head"]["node_config"]


@every_file
def test_a_token_guards_every_node_and_the_dashboard_is_on_loopback(name: str) -> None:
    document = read(name)
    assert "~/.ray/auth_token" in document["file_mounts"].values()
    starts = [document[f"{kind}_start_ray_commands"][-1] for kind in ("head", "worker")]
    for start in starts:
        assert "RAY_AUTH_MODE=token" in start.split("ray start")[0]
        assert "chmod 600 ~/.ray/auth_token" in start
    assert "--dashboard-host=127.0.0.1" in starts[0]


@every_file
def test_no_key_stands_in_a_file(name: str) -> None:
    text = (ROOT / f"cluster/{name}.yaml").read_text()
    assert not any(word in text for word in ("AWS_SECRET", "AWS_ACCESS", "password", "auth_token:  #"))


def test_nodes_of_a_cloud_have_roles_instead_of_keys() -> None:
    aws, gcp = (read(name)["available_node_types"] for name in CLOUDS)
    assert all("IamInstanceProfile" in kind["node_config"] for kind in aws.values())
    assert all(kind["node_config"]["serviceAccounts"] for kind in gcp.values())


@every_cloud
def test_images_are_of_the_ray_that_is_locked(name: str) -> None:
    locked = next(line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("ray=="))
    document = read(name)
    images = [document["docker"]["image"], document["available_node_types"]["gpu"]["docker"]["worker_image"]]
    assert all(image.startswith(f"rayproject/ray:{locked.removeprefix('ray==')}-py311-") for image in images)


@every_file
def test_the_locked_versions_are_installed_from_the_copied_tree(name: str) -> None:
    document = read(name)
    assert "." in document["file_mounts"].values()
    assert "constraints.txt" in document["setup_commands"][-1]
    assert {".git", ".venv", "runs"} <= set(document["rsync_exclude"])
