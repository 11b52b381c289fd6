"""Real commands, stopped at moments that matter: the right code, soon, nothing left running, and the way to go on."""

import shlex
import signal
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.integration.conftest import TINY, tiny_config
from tests.integration.test_kills import COMMAND, count, environment, run
from unet_ray import prepare, storage
from unet_ray.config import Config
from unet_ray.train import run as train

EXIT_S = 25
GONE_S = 120


@pytest.fixture(scope="module")
def trained(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A run with a dataset of 180 training pairs and one checkpoint."""
    root = tmp_path_factory.mktemp("signals")
    config = tiny_config(root, synthetic__frames="60", train__epochs="1", data__split="group")
    prepare.run(config)
    train.run(config)
    return config


@pytest.fixture
def experiment(trained: Config, tmp_path: Path) -> Path:
    """An experiment of its own on that dataset and checkpoint, with too many epochs to end by itself."""
    checkpoints = Path(trained.train_uri, "checkpoints").iterdir()
    document = {
        **TINY,
        "run": {"storage": str(tmp_path), "name": "run"},
        "data": {**TINY["data"], "dataset": trained.dataset_uri},
        "train": {"epochs": 500, "batch_size": 4},
        "predict": {**TINY["predict"], "split": "train", "checkpoint": str(next(iter(checkpoints)))},
    }
    path = tmp_path / "my experiment.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def stop(stage: str, experiment: Path, ready: Callable[[], bool], *numbers: int) -> None:
    """Run a stage, send it signals as soon as it is ready; check its code, its words, its haste and what it leaves."""
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        [*COMMAND, stage, str(experiment)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env={**environment(), "MARK": mark},
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not ready():
        assert process.poll() is None, "the job ended before it could be stopped"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert processes_with(mark)
    started = time.monotonic()
    for number in numbers:
        process.send_signal(number)
        time.sleep(0.05)
    _, said = process.communicate(timeout=2 * EXIT_S)
    seconds = time.monotonic() - started
    print(f"{stage}: {[signal.Signals(number).name for number in numbers]} ended it in {seconds:.1f} s")  # noqa: T201
    assert process.returncode == 128 + numbers[0], said
    assert seconds < EXIT_S
    assert said.splitlines()[-1].endswith(f"to go on: {shlex.join(['unet-ray', stage, str(experiment)])}")
    while left := processes_with(mark):
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


def test_training_ends_when_it_is_told_to(experiment: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "train"
    stop("train", experiment, lambda: count(folder, "_RUN.json") == 1, signal.SIGINT)
    stop("train", experiment, lambda: newest(folder) > "", signal.SIGTERM)
    before = newest(folder)
    stop("train", experiment, lambda: newest(folder) > before, signal.SIGINT, signal.SIGINT)  # it went on


def test_prediction_ends_when_it_is_told_to_and_goes_on_later(experiment: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "predictions"
    stop("predict", experiment, lambda: count(folder, "_PLAN.json") == 1, signal.SIGINT)
    stop("predict", experiment, lambda: count(folder, "_seals/*.json") >= 1, signal.SIGTERM, signal.SIGTERM)
    sealed = {item.key: item.etag for item in storage.list_objects(f"{folder}/_seals")}
    assert not (folder / "_SUCCESS.json").exists()
    result = run("predict", experiment)
    assert (result["frames"], result["ok"], result["already_complete"]) == (180, 180, False)
    assert sealed.items() <= {item.key: item.etag for item in storage.list_objects(f"{folder}/_seals")}.items()
