"""Real commands, stopped at moments that matter: the right code, soon, nothing left running, and the way to go on."""

import shlex
import signal
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.integration.conftest import TINY
from tests.jobs import Experiment, communicate, count, wait_for
from unet_ray import storage
from unet_ray.config import Config
from unet_ray.predict.run import PredictResult

EXIT_S = 25
GONE_S = 300


@pytest.fixture
def experiment(finished: tuple[Config, PredictResult], tmp_path: Path) -> Experiment:
    """An experiment of its own on a finished run's dataset and checkpoint, with too many epochs to end by itself."""
    config, result = finished
    document = {
        **TINY,
        "run": {"storage": str(tmp_path), "name": "run"},
        "data": {**TINY["data"], "dataset": config.dataset_uri},
        "train": {"epochs": 5000, "batch_size": 4},
        "predict": {"split": "train", "checkpoint": result.checkpoint, "batch_size": 1, "shard_rows": 1},
    }
    path = tmp_path / "my experiment.yaml"
    path.write_text(yaml.safe_dump(document))
    return Experiment(path=path, environment={"MARK": uuid.uuid4().hex})


def stop(stage: str, experiment: Experiment, ready: Callable[[], bool], *numbers: int) -> None:
    """Run a stage, send it signals as soon as it is ready; check its code, its words, its haste and what it leaves."""
    process = experiment.start(stage)
    assert wait_for(ready, process), "the job ended before it could be stopped"
    assert processes_with(experiment.environment["MARK"])
    started = time.monotonic()
    for number in numbers:
        process.send_signal(number)
        time.sleep(0.05)
    _, said = communicate(process)
    seconds = time.monotonic() - started
    print(f"{stage}: {[signal.Signals(number).name for number in numbers]} ended it in {seconds:.1f} s")  # noqa: T201
    assert process.returncode == 128 + numbers[0], said
    assert seconds < EXIT_S
    assert said.splitlines()[-1].endswith(f"to go on: {shlex.join(['unet-ray', stage, str(experiment.path)])}")
    while left := processes_with(experiment.environment["MARK"]):
        assert time.monotonic() - started < GONE_S, left
        time.sleep(0.2)


def processes_with(mark: str) -> list[str]:
    """Return the command lines of the processes that inherited a mark, whoever their parent is by now."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"MARK={mark}".encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            pass
    return [command for command in found if command]  # a zombie has none


def newest(folder: Path) -> str:
    """Return the name of the last whole checkpoint, or nothing."""
    return max((path.parent.name for path in folder.glob("checkpoints/*/MANIFEST.json")), default="")


def test_training_ends_when_it_is_told_to(experiment: Experiment, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "train"
    stop("train", experiment, lambda: newest(folder) > "", signal.SIGTERM)
    before = newest(folder)
    stop("train", experiment, lambda: newest(folder) > before, signal.SIGINT, signal.SIGINT)  # it went on


def test_prediction_ends_when_it_is_told_to_and_goes_on_later(experiment: Experiment, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "predictions"
    stop("predict", experiment, lambda: count(folder, "_PLAN.json") == 1, signal.SIGINT)
    stop("predict", experiment, lambda: count(folder, "_seals/*.json") >= 1, signal.SIGTERM, signal.SIGTERM)
    sealed = {item.key: item.etag for item in storage.list_objects(f"{folder}/_seals")}
    assert not (folder / "_SUCCESS.json").exists()
    result = experiment.finish("predict")
    assert (result["frames"], result["ok"], result["already_complete"]) == (21, 21, False)
    assert sealed.items() <= {item.key: item.etag for item in storage.list_objects(f"{folder}/_seals")}.items()
