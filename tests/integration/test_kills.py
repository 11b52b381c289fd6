"""Drivers killed in the middle, through the real command: nothing is lost, nothing is doubled, nothing is different."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.conftest import TINY
from unet_ray.checkpoint import find_checkpoint
from unet_ray.table.read import open_table
from unet_ray.table.verify import verify

COMMAND = (sys.executable, "-c", "import sys; from unet_ray.cli import main; sys.exit(main())")
COLUMNS = ["row_id", "image_id", "status", "pred_mask", "class_pixels", "confusion"]


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    document = {**TINY, "run": {"storage": str(tmp_path), "name": "run"}}
    document["synthetic"] = {"sequences": 4, "frames": 60, "height": 48, "width": 64}
    document["train"] = {"epochs": 3, "batch_size": 8}
    path = tmp_path / "experiment.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}


def run(stage: str, experiment: Path, *flags: str) -> dict[str, Any]:
    done = subprocess.run(
        [*COMMAND, stage, str(experiment), *flags], capture_output=True, text=True, env=environment(), check=False
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    result: dict[str, Any] = json.loads(line)
    return result


def stop_when(ready: Callable[[], bool], arguments: Sequence[str], number: int) -> tuple[int, str]:
    """Start a command, send it a signal as soon as ``ready``; return its exit code and what it said."""
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment()
    )
    deadline = time.monotonic() + 120
    while not ready():
        assert process.poll() is None, "the job ended before it could be stopped"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    return process.returncode, said


def count(folder: Path, pattern: str) -> int:
    return len(list(folder.glob(pattern))) if folder.exists() else 0


def test_killed_jobs_are_resumed_to_the_very_same_results(experiment: Path, tmp_path: Path) -> None:
    run("prepare", experiment)

    # Training: killed after its second checkpoint, against a run that nobody disturbed.
    checkpoints = tmp_path / "run" / "train" / "checkpoints"
    code, _ = stop_when(lambda: count(checkpoints, "*/MANIFEST.json") >= 2, ["train", str(experiment)], signal.SIGKILL)
    assert code == -signal.SIGKILL
    left = [path for path in (checkpoints.parent / "_ray").rglob("*") if path.is_file()]
    for path in [*left, checkpoints.parent / "_ray" / "checkpoint_manager_snapshot.json"]:
        path.write_text('{"checkpoint_results": [')  # what Ray Train itself cannot go on from
    resumed = run("train", experiment)
    assert resumed["epochs"] == 3
    dataset = f"--data.dataset={tmp_path / 'run' / 'dataset'}"
    run("train", experiment, "--run.name=calm", dataset)
    weights = [find_checkpoint(str(tmp_path / name / "train"), "last").info.model_sha256 for name in ("run", "calm")]
    assert weights[0] == weights[1]
    assert count(checkpoints.parent / "_ray", "**/*.json") == 0

    # Prediction: killed with some shards sealed, against one that nobody disturbed.
    predict = ["--predict.split", "train"]
    seals = tmp_path / "run" / "predictions" / "_seals"
    code, _ = stop_when(lambda: count(seals, "*.json") >= 3, ["predict", str(experiment), *predict], signal.SIGKILL)
    assert code == -signal.SIGKILL
    sealed = count(seals, "*.json")
    assert 3 <= sealed < 23
    assert not (seals.parent / "_SUCCESS.json").exists()
    result = run("predict", experiment, *predict)
    assert (result["frames"], result["ok"], result["already_complete"]) == (180, 180, False)
    calm = tmp_path / "calm" / "predictions"
    run("predict", experiment, *predict, f"--predict.output={calm}")
    disturbed, undisturbed = open_table(str(seals.parent)), open_table(str(calm))
    assert disturbed.success.totals == undisturbed.success.totals
    assert disturbed.read(COLUMNS).equals(undisturbed.read(COLUMNS))
    assert verify(disturbed.uri).problems == ()

    # The same again is done already; another model at the same place is refused by name.
    assert run("predict", experiment, *predict)["already_complete"]
    other = find_checkpoint(str(tmp_path / "run" / "train"), "last")
    older = next(
        path.parent
        for path in checkpoints.glob("*/MANIFEST.json")
        if json.loads(path.read_text())["files"]["model.safetensors"]
        != find_checkpoint(str(tmp_path / "run" / "train"), "best").info.model_sha256
    )
    assert other.info.epoch == 3
    refused = subprocess.run(
        [*COMMAND, "predict", str(experiment), *predict, f"--predict.checkpoint={older}"],
        capture_output=True, text=True, env=environment(), check=False,
    )  # fmt: skip
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert "error: predict.checkpoint: " in refused.stderr
    assert "was begun with" in refused.stderr
