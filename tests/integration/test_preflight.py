"""What cannot work is refused in seconds, by name and with the fix, and leaves the run as it was."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import ray
import yaml

from tests.integration.conftest import TINY, tiny_config
from tests.jobs import COMMAND, environment
from unet_ray import prepare
from unet_ray.checkpoint import find_checkpoint, save_checkpoint
from unet_ray.config import Config
from unet_ray.datasets.synthetic import CLASSES
from unet_ray.errors import CheckpointError, ConfigError, PlanMismatchError, ResourceError, UnetRayError
from unet_ray.predict import run as predict
from unet_ray.train import run as train
from unet_ray.train.optimizers import make_optimizer

OTHERS = [f"other {name}" for name in CLASSES]


@pytest.fixture(scope="module")
def trained(finished: tuple[Config, predict.PredictResult]) -> Config:
    """A finished run, and beside it a dataset of the same frames with other class names."""
    config, _ = finished
    prepare.run(other_classes(Path(config.run.storage)))
    return config


def other_classes(root: Path, **changes: str) -> Config:
    return tiny_config(root, labels__classes=str(OTHERS), data__dataset=f"{root}/other", **changes)


@contextmanager
def refused(kind: type[UnetRayError], message: str) -> Iterator[None]:
    started = time.monotonic()
    with pytest.raises(kind) as caught:
        yield
    print(f"{time.monotonic() - started:.1f} s: {caught.value}")  # noqa: T201
    assert message in str(caught.value)


def test_classes_that_are_not_the_checkpoints_are_refused_with_both_lists(trained: Config) -> None:
    root = Path(trained.run.storage)
    wrong = other_classes(root, predict__output=f"{root}/wrong")
    with refused(CheckpointError, f"knows the classes {list(CLASSES)}, the dataset {root}/other has {OTHERS}; take"):
        predict.run(wrong)
    frames = f"{trained.run_uri}/frames"
    truth = other_classes(root, predict__output=f"{root}/wrong", predict__images=f"{frames}/images")
    with refused(CheckpointError, f"knows the classes {list(CLASSES)}, labels names {OTHERS}; take"):
        predict.run(truth)
    assert not Path(root, "wrong").exists()


def test_training_on_other_classes_than_the_run_or_the_dataset_has_is_refused_with_both_lists(trained: Config) -> None:
    root = Path(trained.run.storage)
    with refused(PlanMismatchError, "classes: "):
        train.run(replace(other_classes(root), train=trained.train))
    named = tiny_config(root, run__name="fresh", data__dataset=trained.dataset_uri, labels__classes=str(OTHERS))
    with refused(ConfigError, f"labels.classes: names {OTHERS}, the dataset {trained.dataset_uri} was prepared with"):
        train.run(named)
    weights = tiny_config(root, run__name="fresh", data__dataset=trained.dataset_uri, loss__class_weights="[1, 2]")
    with refused(ConfigError, "loss.class_weights: must hold a number per class, got 2 for 8 classes"):
        train.run(weights)
    assert not Path(root, "fresh").exists()  # so it can be begun with other settings


def test_a_checkpoint_of_another_architecture_is_refused_before_a_predictor_starts(trained: Config) -> None:
    best = find_checkpoint(trained.train_uri, "best")
    wider = replace(best.card, model=replace(best.card.model, width=2 * best.card.model.width))
    model = wider.build()
    info = save_checkpoint(
        f"{trained.run.storage}/wider",
        card=best.card,
        model=model,
        optimizer=make_optimizer(model, trained.optim),
        step=1,
        epoch=1,
        score=None,
        progress={},
    )
    with refused(CheckpointError, f"{info.uri}: the weights do not fit the card: size mismatch"):
        predict.run(tiny_config(Path(trained.run.storage), predict__checkpoint=info.uri))


def test_a_network_that_cannot_be_trained_here_is_refused_before_the_run_begins(trained: Config) -> None:
    root = Path(trained.run.storage)
    fresh = {"run__name": "fresh", "data__dataset": trained.dataset_uri}
    if not ray.cluster_resources().get("GPU"):  # type: ignore[no-untyped-call]
        with refused(ConfigError, "model.norm: sync_batch needs GPUs, and this job trains on CPUs; use batch or group"):
            train.run(tiny_config(root, **fresh, model__norm="sync_batch"))
    resnet = {"model__kind": "resnet18", "model__depth": "4", "augment__crop": "[32, 32]"}
    with refused(ConfigError, f"model.encoder_weights: could not read {root}/none.pth"):
        train.run(tiny_config(root, **fresh, **resnet, model__encoder_weights=f"{root}/none.pth"))
    assert not Path(root, "fresh").exists()


def test_an_absent_gpu_is_refused(trained: Config) -> None:
    if ray.cluster_resources().get("GPU"):  # type: ignore[no-untyped-call]
        pytest.skip("there is one")
    for run in (train.run, predict.run):
        with refused(ResourceError, "scaling.device: gpu, but the cluster has no GPU; use auto or cpu"):
            run(tiny_config(Path(trained.run.storage), scaling__device="gpu"))


def test_labels_that_no_node_has_are_refused(trained: Config) -> None:
    labels = "{unet-ray/role: network, zone: b}"
    for run in (train.run, predict.run):
        with refused(
            ResourceError,
            f"scaling.node_labels: none of the cluster's 1 node(s) has {labels[1:-1]}; correct it or leave it out, "
            "start such nodes (ray start --labels), or ask a cluster that grows for scaling.gpus",
        ):
            run(tiny_config(Path(trained.run.storage), scaling__node_labels=labels, scaling__cpus="1"))


ONE_CPU = """
import json, os, sys, time
import ray
from tests.integration.conftest import tiny_config
from pathlib import Path
from unet_ray import prepare
from unet_ray.predict import run as predict
from unet_ray.train import run as train
from unet_ray.errors import ResourceError
ray.init(address="local", num_cpus=int(sys.argv[2]), include_dashboard=False, log_to_driver=False)
root = Path(sys.argv[1])
said = {}
for stage, name in ((prepare, "one"), (train, "run"), (predict, "run")):
    started = time.monotonic()
    try:
        stage.run(tiny_config(root, run__name=name, predict__output=f"{root}/one/predictions"))
    except ResourceError as error:
        said[stage.__name__] = [str(error), round(time.monotonic() - started, 1)]
print("SAID", json.dumps(said))
os._exit(0)
"""


def test_too_few_cpus_are_refused_and_never_waited_for(trained: Config) -> None:
    for cpus, refusing in (("0", 3), ("1", 2)):
        done = subprocess.run(
            [sys.executable, "-c", ONE_CPU, trained.run.storage, cpus],
            capture_output=True, text=True, env=environment(), check=True,
        )  # fmt: skip
        said = json.loads(done.stdout.rpartition("SAID ")[2])
        print(cpus, said)  # noqa: T201
        assert len(said) == refusing
        assert all("CPU" in message for message, _ in said.values())


@pytest.mark.parametrize("stage", ["prepare", "predict"])
def test_a_wrong_endpoint_is_named_in_seconds(tmp_path: Path, stage: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(yaml.safe_dump({**TINY, "run": {"storage": "s3://bucket/runs", "name": "run"}}))
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = f"http://127.0.0.1:{server.getsockname()[1]}"
    keys = {"AWS_ENDPOINT_URL": closed, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    started = time.monotonic()
    done = subprocess.run(
        [*COMMAND, stage, str(path)], capture_output=True, text=True, env={**environment(), **keys}, check=False
    )
    print(f"{stage}: {time.monotonic() - started:.1f} s")  # noqa: T201
    assert (done.returncode, done.stdout) == (2, "")
    assert f"no answer from {closed}, also after retries; check AWS_ENDPOINT_URL" in done.stderr.splitlines()[-1]
