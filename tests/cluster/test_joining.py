"""What a driver that joins a cluster by `RAY_ADDRESS` is told where it cannot."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml

from tests.integration.conftest import TINY
from tests.jobs import COMMAND, Experiment, communicate
from tests.jobs import environment as own_environment
from tests.nodes import Nodes

OTHER_VERSION = """
import os
from ray._raylet import GcsClient
GcsClient(address=os.environ["RAY_ADDRESS"]).internal_kv_put(
    b"CLUSTER_METADATA", os.environ["METADATA"].encode(), True, b"cluster"
)
"""


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with Nodes(head=2) as started:
        yield started


def refusal(folder: Path, environment: Mapping[str, str]) -> str:
    """Return the last line of a job that is refused in seconds."""
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({**TINY, "run": {"name": "tiny", "storage": str(folder)}}))
    started = time.monotonic()
    said, complaints = communicate(job := Experiment(path=path, environment=environment).start("prepare"))
    assert (job.returncode, said) == (2, ""), complaints
    assert time.monotonic() - started < 60
    return complaints.splitlines()[-1]


def look(environment: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
    """Return the exit code of ``unet-ray doctor``, and what it says of the cluster."""
    done = subprocess.run(
        [*COMMAND, "doctor"], capture_output=True, text=True, check=False, env={**own_environment(), **environment}
    )
    (found,) = (one for one in json.loads(done.stdout)["findings"] if one["check"] == "cluster")
    return done.returncode, found


def test_the_doctor_joins_the_cluster_or_says_why_not(nodes: Nodes) -> None:
    code, found = look(nodes.environment)
    assert (code, found["status"]) == (0, "ok")
    assert found["found"].endswith(": 1 node(s) with 2 CPUs and 0 GPUs")
    code, found = look({**nodes.environment, "RAY_AUTH_TOKEN": "0" * 64})
    assert (code, found["status"]) == (2, "problem")
    assert found["found"].startswith("RAY_ADDRESS: the cluster has another token than ours; put the one")


def test_another_token_and_another_version_are_refused_in_seconds(nodes: Nodes, tmp_path: Path) -> None:
    wrong = {**nodes.environment, "RAY_AUTH_TOKEN": "0" * 64}
    assert refusal(tmp_path, wrong) == (
        "error: RAY_ADDRESS: the cluster has another token than ours; put the one that it was started with in "
        "~/.ray/auth_token"
    )
    # The head says of itself what a head of another version would.
    other = {"ray_version": "2.49.1", "python_version": sys.version.split()[0]}
    subprocess.run(
        [sys.executable, "-c", OTHER_VERSION], check=True,
        env={**os.environ, **nodes.environment, "METADATA": json.dumps(other)},
    )  # fmt: skip
    said = refusal(tmp_path, nodes.environment)
    assert said.startswith("error: RAY_ADDRESS: Version mismatch: The cluster was started with: Ray: 2.49.1 Python: ")
    assert f"Ray: {ray.__version__}" in said
    assert said.endswith("install the cluster's versions here, or start it from this version's image")
