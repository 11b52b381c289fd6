"""Jobs submitted to a cluster that somebody else has started, with a token."""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.conftest import TINY
from tests.jobs import COMMAND, DEADLINE_S, communicate, environment, table_hash, wait_for
from tests.nodes import Nodes
from tests.tally import Tally
from unet_ray.checkpoint import find_checkpoint
from unet_ray.table.read import open_table
from unet_ray.table.verify import verify

ROOT = Path(__file__).parents[2]
RAY = str(Path(sys.executable).with_name("ray"))
EPOCHS = 80


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    # Nodes on one machine would take each other's copies of the code: the head does the work.
    with pytest.MonkeyPatch.context() as variables:
        variables.setenv("RAY_metrics_report_interval_ms", "1000")
        with Nodes(head=4, dashboard=True) as started:
            yield started


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("submitted")
    document = {
        **TINY,
        "run": {"name": "tiny", "storage": str(folder)},
        "train": {**TINY["train"], "epochs": EPOCHS, "eval_every": 50, "checkpoint_every_steps": 20},
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def start(nodes: Nodes, *command: str, token: str | None = None) -> "subprocess.Popen[str]":
    """Start a command of somebody who knows the token, or another one."""
    guard = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token or nodes.environment["RAY_AUTH_TOKEN"]}
    known = {**environment(), **guard, "RAY_API_SERVER_ADDRESS": nodes.dashboard}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=known, cwd=ROOT)


def submit(nodes: Nodes, *arguments: str, token: str | None = None) -> "subprocess.Popen[str]":
    return start(nodes, *COMMAND, "submit", *arguments, token=token)


def result_of(process: "subprocess.Popen[str]") -> dict[str, Any]:
    said, complaints = communicate(process)
    assert process.returncode == 0, complaints
    (line,) = said.splitlines()
    found: dict[str, Any] = json.loads(line)
    assert found["exit_code"] == 0
    result: dict[str, Any] = found["result"]
    return result


def shown(nodes: Nodes, series: str) -> str:
    """Return what the head's Prometheus endpoint has of a series."""
    with urllib.request.urlopen(nodes.metrics, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return "\n".join(line for line in lines if line.startswith(f"{series}{{"))


@pytest.mark.nightly
def test_every_stage_runs_as_a_job_and_training_that_was_stopped_goes_on(
    nodes: Nodes, config: Path, tally: Tally
) -> None:
    said, complaints = communicate(
        start(nodes, RAY, "job", "submit", "--working-dir", ".", "--", "python", "jobs/prepare.py", str(config))
    )
    assert "succeeded" in said, complaints
    (result,) = (line for line in said.splitlines() if line.startswith('{"dataset"'))
    assert json.loads(result)["ok"] == 28
    logged = [json.loads(line) for line in said.splitlines() if line.startswith('{"time"')]
    assert [line["message"] for line in logged if "28/28 pairs" in line["message"]]
    assert {line["level"] for line in logged} == {"INFO"}

    checkpoints = config.parent / "tiny" / "train" / "checkpoints"
    first = submit(nodes, "train", str(config))
    name = next(line for line in first.stderr or () if " job train-" in line).split(" job ")[1].split()[0]
    assert wait_for(lambda: checkpoints.exists() and any(checkpoints.iterdir()), first), communicate(first)
    assert wait_for(lambda: 'run="tiny"' in shown(nodes, "ray_unet_ray_epoch"), first), communicate(first)
    assert 'command="train"' in shown(nodes, "ray_unet_ray_epoch")
    _, complaints = communicate(stop := start(nodes, RAY, "job", "stop", name))
    assert stop.returncode == 0, complaints
    said, complaints = communicate(first)
    assert (first.returncode, json.loads(said)["result"]) == (143, None), complaints
    assert "to go on: submit it again" in complaints

    trained = result_of(submit(nodes, "train", str(config)))
    assert trained["epochs"] == EPOCHS
    assert find_checkpoint(f"{config.parent}/tiny/train", "last").info.epoch == EPOCHS

    predicted = result_of(submit(nodes, "predict", str(config)))
    assert predicted["frames"] == 7
    assert verify(predicted["predictions"]).problems == ()
    here = config.parent / "here"
    local = subprocess.run(
        [*COMMAND, "predict", str(config), "--predict.output", str(here)],
        env=environment(), capture_output=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert local.returncode == 0, local.stderr
    mismatched = table_hash(str(here)) != table_hash(predicted["predictions"])
    tally.add(trials=1, mismatched=int(mismatched), stops=1)
    assert not mismatched

    again = result_of(submit(nodes, "pipeline", str(config)))
    assert [again[stage]["already_complete"] for stage in ("prepare", "train", "predict")] == [True] * 3
    assert Path(again["report"]["report"]).exists()
    assert open_table(predicted["predictions"]).success.num_ok == 7


def test_a_job_that_fails_says_why_and_with_which_code(nodes: Nodes, config: Path) -> None:
    process = submit(nodes, "predict", str(config), "--predict.checkpoint", "/nowhere/step")
    said, complaints = communicate(process)
    assert process.returncode == 2
    assert (json.loads(said)["exit_code"], json.loads(said)["result"]) == (2, None)
    assert any(line.startswith("error: ") and "/nowhere/step" in line for line in complaints.splitlines())


def test_a_variable_of_here_reaches_the_job_that_is_not_waited_for(nodes: Nodes, config: Path) -> None:
    process = submit(nodes, "--env", "LANG", "--no-wait", "model", str(config))
    said, complaints = communicate(process)
    assert process.returncode == 0, complaints
    job = json.loads(said)["job"]
    request = urllib.request.Request(f"{nodes.dashboard}/api/jobs/{job}")
    request.add_header("Authorization", f"Bearer {nodes.environment['RAY_AUTH_TOKEN']}")
    with urllib.request.urlopen(request) as answer:
        info = json.load(answer)
    variables = info["runtime_env"]["env_vars"]
    assert sorted(variables) == ["LANG", "RAY_JOB_STOP_WAIT_TIME_S"]
    assert info["entrypoint"] == "python -m unet_ray model config.yaml"


def test_a_wrong_token_is_refused(nodes: Nodes, config: Path) -> None:
    said, complaints = communicate(process := submit(nodes, "train", str(config), token="wrong"))
    assert (process.returncode, said) == (2, "")
    assert "has another token than ours; put the token that it was started with in ~/.ray/auth_token" in complaints
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{nodes.dashboard}/api/jobs/")
    assert refused.value.code == 401
