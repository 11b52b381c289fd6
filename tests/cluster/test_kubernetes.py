"""What kustomize makes of ``cluster/kuberay``, held to the schemas of Kubernetes and KubeRay and to what hardens it."""

import copy
import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

ROOT = Path(__file__).parents[2]
KUBERAY = ROOT / "cluster/kuberay"
CRDS = Path(os.environ.get("UNET_RAY_DATA") or ROOT.parent / "shared/data").parent / "reference/kuberay"
STAGES = ("prepare", "train", "predict", "report", "pipeline")
OVERLAYS = ("base", "gpu", "spot")
KUBERNETES = "1.32"
Manifest = dict[str, Any]

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl, which renders kustomize, is not here")


def render(folder: Path) -> list[Manifest]:
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@cache
def cluster(overlay: str) -> Manifest:
    return one(render(KUBERAY / overlay), "RayCluster")


def job(tmp: Path, stage: str, overlay: str) -> Manifest:
    return one(render(choose(tmp, stage, overlay)), "RayJob")


def choose(tmp: Path, stage: str, overlay: str) -> Path:
    """Copy the tree and make the two choices in ``run`` that its comments offer."""
    shutil.copytree(KUBERAY, tmp / "kuberay")
    path = tmp / "kuberay/run/kustomization.yaml"
    text = path.read_text()
    path.write_text(text.replace("[../base]", f"[../{overlay}]").replace("[../jobs/predict]", f"[../jobs/{stage}]"))
    return path.parent


def one(manifests: list[Manifest], kind: str) -> Manifest:
    (found,) = [manifest for manifest in manifests if manifest["kind"] == kind]
    return found


def pods(spec: Manifest) -> Iterator[Manifest]:
    yield spec["headGroupSpec"]["template"]
    for group in spec["workerGroupSpecs"]:
        yield group["template"]


def strict(schema: Any) -> Any:
    """Return a schema that knows no keys but its own, as a server that is asked to be strict does."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        closed.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        closed.pop("type", None)
    return closed


@cache
def custom_schema(kind: str) -> Manifest:
    path = CRDS / f"{kind.lower()}s.yaml"
    if not path.exists():
        pytest.skip(f"KubeRay's definitions are not at {CRDS}")
    versions = yaml.safe_load(path.read_text())["spec"]["versions"]
    (schema,) = [version["schema"]["openAPIV3Schema"] for version in versions if version["name"] == "v1"]
    schema["properties"]["metadata"] = {"type": "object"}
    closed: Manifest = strict(schema)
    return closed


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_clusters_are_what_kuberay_takes(overlay: str) -> None:
    jsonschema.validate(cluster(overlay), custom_schema("RayCluster"))


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("stage", STAGES)
def test_jobs_are_what_kuberay_takes_and_have_the_cluster_that_was_chosen(
    tmp_path: Path, stage: str, overlay: str
) -> None:
    manifests = render(choose(tmp_path, stage, overlay))
    assert sorted(manifest["kind"] for manifest in manifests) == [
        "ConfigMap", "NetworkPolicy", "RayJob", "ServiceAccount",
    ]  # fmt: skip
    found = one(manifests, "RayJob")
    jsonschema.validate(found, custom_schema("RayJob"))
    assert found["spec"]["entrypoint"] == f"python /app/jobs/{stage}.py /etc/unet-ray/experiment.yaml"
    expected = yaml.safe_dump(cluster(overlay)["spec"]).replace(
        "image: unet-ray", "image: registry.example.com/unet-ray:0.1.0"
    )
    assert found["spec"]["rayClusterSpec"] == yaml.safe_load(expected)


def test_a_misspelt_key_would_be_found() -> None:
    wrong = copy.deepcopy(cluster("gpu"))
    wrong["spec"]["workerGroupSpecs"][0]["maxReplica"] = 3
    with pytest.raises(jsonschema.ValidationError, match="maxReplica"):
        jsonschema.validate(wrong, custom_schema("RayCluster"))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_everything_else_is_what_kubernetes_takes(overlay: str) -> None:
    manifests = [manifest for manifest in render(KUBERAY / overlay) if manifest["apiVersion"] != "ray.io/v1"]
    assert {manifest["kind"] for manifest in manifests} == {"ServiceAccount", "NetworkPolicy"}
    for manifest in manifests:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_pods_are_what_kubernetes_takes(tmp_path: Path) -> None:
    found = job(tmp_path, "train", "spot")["spec"]
    for number, template in enumerate([*pods(found["rayClusterSpec"]), found["submitterPodTemplate"]]):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"pod-{number}"}, "spec": template["spec"]}
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)


def test_every_container_runs_without_rights_on_a_filesystem_it_cannot_write(tmp_path: Path) -> None:
    found = job(tmp_path, "train", "spot")["spec"]
    for template in [*pods(found["rayClusterSpec"]), found["submitterPodTemplate"]]:
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] == 1000
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": True,
            }
            assert set(container["resources"]) == {"requests", "limits"}
            assert container["resources"]["requests"]["memory"] == container["resources"]["limits"]["memory"]
            writable = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
            assert "/tmp" in writable
        assert all("sizeLimit" in volume.get("emptyDir", {"sizeLimit": 0}) for volume in spec["volumes"])
    sidecar = found["rayClusterSpec"]["autoscalerOptions"]["securityContext"]
    assert sidecar["readOnlyRootFilesystem"] is True
    assert sidecar["allowPrivilegeEscalation"] is False


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_shared_memory_is_memory_of_a_stated_size(overlay: str) -> None:
    for template in pods(cluster(overlay)["spec"]):
        (container,) = template["spec"]["containers"]
        (shm,) = [volume["emptyDir"] for volume in template["spec"]["volumes"] if volume["name"] == "shm"]
        assert shm["medium"] == "Memory"
        limit = container["resources"]["limits"]["memory"]
        assert 0 < int(shm["sizeLimit"].removesuffix("Gi")) < int(limit.removesuffix("Gi")) / 2


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_workers_have_no_account_of_the_cluster_and_time_to_save(overlay: str) -> None:
    spec = cluster(overlay)["spec"]
    for template in pods(spec):
        assert template["spec"]["terminationGracePeriodSeconds"] >= 60
        assert template["spec"]["serviceAccountName"] == "unet-ray"
    assert all(not group["template"]["spec"]["automountServiceAccountToken"] for group in spec["workerGroupSpecs"])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_groups_grow_from_none_by_autoscaler_2_and_a_token_guards_them(overlay: str) -> None:
    spec = cluster(overlay)["spec"]
    assert spec["authOptions"] == {"mode": "token"}
    assert (spec["enableInTreeAutoscaling"], spec["autoscalerOptions"]["version"]) == (True, "v2")
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for group in spec["workerGroupSpecs"]:
        assert group["minReplicas"] == group["replicas"] == 0 < group["maxReplicas"]
        assert group["idleTimeoutSeconds"] >= 60


def test_the_network_is_closed_to_all_but_the_cluster_and_its_operator() -> None:
    manifests = render(KUBERAY / "spot")
    policy = one(manifests, "NetworkPolicy")["spec"]
    labels = policy["podSelector"]["matchLabels"]
    for template in pods(one(manifests, "RayCluster")["spec"]):
        assert labels.items() <= template["metadata"]["labels"].items()
    assert policy["policyTypes"] == ["Ingress"]
    (own, operator) = policy["ingress"]
    assert own == {"from": [{"podSelector": {"matchLabels": labels}}]}
    assert operator["ports"] == [{"protocol": "TCP", "port": 8265}]


def test_gpus_of_the_spot_overlay_are_on_spot_capacity_and_nothing_else_is() -> None:
    cpu, gpu = cluster("spot")["spec"]["workerGroupSpecs"]
    assert gpu["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    terms = gpu["template"]["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert len(terms["nodeSelectorTerms"]) == 3
    assert "affinity" not in cpu["template"]["spec"]
    assert "affinity" not in cluster("spot")["spec"]["headGroupSpec"]["template"]["spec"]


def test_a_job_is_tried_again_by_name_and_leaves_no_cluster(tmp_path: Path) -> None:
    spec = job(tmp_path, "predict", "base")["spec"]
    assert spec["backoffLimit"] == 3
    assert spec["shutdownAfterJobFinishes"] is True
    assert "RAY_JOB_STOP_WAIT_TIME_S" in yaml.safe_load(spec["runtimeEnvYAML"])["env_vars"]


def test_the_experiment_is_one_that_unet_ray_takes() -> None:
    from unet_ray.config_file import load_config

    config = load_config(str(KUBERAY / "run/experiment.yaml"))
    assert config.run.storage.startswith("s3://")
