from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.unit.tiny_run import make_config, make_job, run
from tests.unit.tiny_training import CARD
from unet_ray.checkpoint import find_checkpoint, open_checkpoint
from unet_ray.config_training import ModelSection, OptimSection, TrainSection
from unet_ray.errors import CheckpointError, ConfigError
from unet_ray.exported import find_model
from unet_ray.train.start import check_start, new_classes, take_weights

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def train_uri(tmp_path: Path) -> str:
    """A finished run."""
    job = make_job(make_config(tmp_path / "first", OptimSection(ema_decay=0.9)))
    run(job)
    return job.config.train_uri


def test_a_run_begins_with_the_average_of_the_best_checkpoint_of_another(train_uri: str, tmp_path: Path) -> None:
    config = make_config(tmp_path / "second", OptimSection(lr=1e-12))
    config = replace(config, train=replace(config.train, start_from=train_uri))
    history = run(make_job(config))
    best = find_checkpoint(train_uri, "best")
    assert history[0]["miou"] == best.info.score  # epoch 0 validates what it begins with
    assert best.average
    weights = find_checkpoint(config.train_uri, "last").weights
    assert torch.allclose(weights["head.weight"], best.average["head.weight"])


def test_a_prediction_takes_the_best_checkpoint_of_the_train_folder_that_it_is_given(train_uri: str) -> None:
    assert find_model("nowhere", train_uri).info == find_checkpoint(train_uri, "best").info


def test_each_class_that_is_known_keeps_its_part_of_the_head(train_uri: str) -> None:
    start = open_checkpoint(train_uri)
    known = start.card.class_map.classes
    classes = (known[1], "moon", known[0])
    torch.manual_seed(7)
    anew = CARD.build()
    torch.manual_seed(7)
    model = CARD.build()
    take_weights(model, start, classes)
    given = start.load_model()
    assert torch.equal(model.head.weight[0], given.head.weight[1])
    assert torch.equal(model.head.weight[1], anew.head.weight[1])
    assert torch.equal(model.head.bias[2], given.head.bias[0])
    assert torch.equal(model.down[0][0].weight, given.down[0][0].weight)
    assert torch.equal(model.down[0][1].running_mean, given.down[0][1].running_mean)
    assert new_classes(start, classes) == ["moon"]


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (ModelSection(width=3, depth=1), r"is of model\.width 2, this run has 3; set model\.width to 2, or begin"),
        (ModelSection(width=2, depth=1, norm="group"), r"is of model\.norm batch, this run has group"),
        (ModelSection(kind="unet_valid", width=2, depth=1), r"is of model\.kind unet, this run has unet_valid"),
    ],
)
def test_a_checkpoint_of_another_network_is_refused(train_uri: str, model: ModelSection, said: str) -> None:
    with pytest.raises(ConfigError, match=r"train\.start_from: .*" + said):
        check_start(open_checkpoint(train_uri), model)


def test_dropout_and_deep_supervision_may_differ(train_uri: str) -> None:
    check_start(open_checkpoint(train_uri), ModelSection(width=2, depth=1, norm="batch", dropout=0.5))


def test_a_place_without_a_checkpoint_is_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint here"):
        open_checkpoint(str(tmp_path / "nothing"))


def test_a_start_with_a_password_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"train\.start_from: holds a password"):
        TrainSection(start_from="s3://me:secret@bucket/run")
