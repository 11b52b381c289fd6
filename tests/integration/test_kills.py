"""Drivers killed in the middle, through the real command: nothing is lost, nothing is doubled, nothing is different."""

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.integration.conftest import TINY
from tests.jobs import Experiment, communicate, count, wait_for
from unet_ray import prepare
from unet_ray.checkpoint import find_checkpoint, list_checkpoints
from unet_ray.config_file import load_config
from unet_ray.predict import run as predict
from unet_ray.table.read import open_table
from unet_ray.table.verify import verify
from unet_ray.train import run as train

COLUMNS = ["row_id", "image_id", "status", "pred_mask", "class_pixels", "confusion"]


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    document = {**TINY, "run": {"storage": str(tmp_path), "name": "run"}}
    document["synthetic"] = {"sequences": 4, "frames": 40, "height": 48, "width": 64}
    document["train"] = {"epochs": 3, "batch_size": 8}
    document["predict"] = {**TINY["predict"], "split": "train"}
    path = tmp_path / "experiment.yaml"
    path.write_text(yaml.safe_dump(document))
    return Experiment(path=path)


def kill_when(ready: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    """Kill a job as soon as something is so."""
    assert wait_for(ready, process), "the job ended before it could be killed"
    process.kill()
    communicate(process)
    assert process.returncode == -signal.SIGKILL


@pytest.mark.usefixtures("ray_cluster")  # where the undisturbed runs run
def test_killed_jobs_are_resumed_to_the_very_same_results(experiment: Experiment, tmp_path: Path) -> None:
    calm = load_config(str(experiment.path), {"run.name": "calm", "data.dataset": str(tmp_path / "run" / "dataset")})
    prepare.run(load_config(str(experiment.path)))

    # Training: killed after its second checkpoint, against a run that nobody disturbed.
    checkpoints = tmp_path / "run" / "train" / "checkpoints"
    kill_when(lambda: count(checkpoints, "*/MANIFEST.json") >= 2, experiment.start("train"))
    left = [path for path in (checkpoints.parent / "_ray").rglob("*") if path.is_file()]
    for path in [*left, checkpoints.parent / "_ray" / "checkpoint_manager_snapshot.json"]:
        path.write_text('{"checkpoint_results": [')  # what Ray Train itself cannot go on from
    assert experiment.finish("train")["epochs"] == 3
    train.run(calm)
    disturbed, undisturbed = (find_checkpoint(str(tmp_path / name / "train"), "last") for name in ("run", "calm"))
    assert disturbed.info.epoch == undisturbed.info.epoch == 3
    assert disturbed.info.model_sha256 == undisturbed.info.model_sha256
    assert count(checkpoints.parent / "_ray", "**/*.json") == 0

    # Prediction: killed with some shards sealed, against one that nobody disturbed.
    seals = tmp_path / "run" / "predictions" / "_seals"
    kill_when(lambda: count(seals, "*.json") >= 3, experiment.start("predict"))
    assert 3 <= count(seals, "*.json") < 15
    assert not (seals.parent / "_SUCCESS.json").exists()
    result = experiment.finish("predict")
    assert (result["frames"], result["ok"], result["already_complete"]) == (120, 120, False)
    table, other = open_table(str(seals.parent)), open_table(predict.run(calm).predictions)
    assert table.success.totals == other.success.totals
    assert table.read(COLUMNS).equals(other.read(COLUMNS))
    assert verify(table.uri).problems == ()

    # The same again is done already; another model at the same place is refused by name.
    assert experiment.finish("predict")["already_complete"]
    best = find_checkpoint(str(tmp_path / "run" / "train"), "best").info
    older = next(info.uri for info in list_checkpoints(str(tmp_path / "run" / "train")) if info.uri != best.uri)
    said, complaints = communicate(refused := experiment.start("predict", f"--predict.checkpoint={older}"))
    assert (refused.returncode, said) == (2, "")
    assert "error: predict.checkpoint: " in complaints
    assert "was begun with" in complaints
