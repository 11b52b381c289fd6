from dataclasses import replace
from typing import Any

import pytest

from unet_ray.config import Config
from unet_ray.config_file import parse_config
from unet_ray.errors import ConfigError
from unet_ray.tuning import draw_trials, format_table, make_rungs, trial_config


def config(space: dict[str, Any], **tune: Any) -> Config:
    return parse_config({"run": {"storage": "/data", "name": "search"}, "tune": {"space": space, **tune}}, {}, "test")


def test_a_small_space_is_tried_whole() -> None:
    found = draw_trials(config({"model.width": [8, 16], "optim.lr": [1e-3, 1e-2]}, trials=4))
    assert found == [
        {"model.width": 8, "optim.lr": 1e-3},
        {"model.width": 8, "optim.lr": 1e-2},
        {"model.width": 16, "optim.lr": 1e-3},
        {"model.width": 16, "optim.lr": 1e-2},
    ]


def test_trials_follow_from_the_seed_and_their_number_alone() -> None:
    space = {"optim.lr": {"low": 1e-4, "high": 1e-2, "log": True}, "model.width": [8, 16, 32]}
    few, many = draw_trials(config(space, trials=5)), draw_trials(config(space, trials=50))
    assert few == many[:5]
    assert {trial["model.width"] for trial in many} == {8, 16, 32}
    rates = sorted(trial["optim.lr"] for trial in many)
    assert 1e-4 <= rates[0] < 3e-4
    assert 3e-3 < rates[-1] <= 1e-2
    assert 5e-4 < rates[25] < 2e-3  # the middle of the logarithms


def test_an_even_range_is_drawn_from_evenly() -> None:
    found = draw_trials(config({"loss.dice": {"low": 0.0, "high": 2.0}}, trials=200))
    mean = sum(trial["loss.dice"] for trial in found) / 200
    assert mean == pytest.approx(1.0, abs=0.15)


def test_a_trial_is_a_run_of_its_own_on_the_dataset_of_the_search() -> None:
    found = trial_config(config({"optim.lr": [1e-3]}), 7, {"optim.lr": 1e-3, "augment.scale": [0.5, 2.0]})
    assert (found.optim.lr, found.augment.scale) == (1e-3, (0.5, 2.0))
    assert found.train_uri == "/data/search/tune/trial-007/train"
    assert found.dataset_uri == "/data/search/dataset"


def test_trials_ask_for_nothing_that_the_search_has_asked_for() -> None:
    search = config({"optim.lr": [1e-3]})
    search = replace(search, scaling=replace(search.scaling, cpus=6, gpus=1, num_workers=2))
    found = trial_config(search, 0, {"optim.lr": 1e-3}).scaling
    assert (found.cpus, found.gpus, found.num_workers) == (None, None, 2)


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({}, r"tune\.space: must name options to vary, such as"),
        (
            {"optim.rate": [1.0]},
            r"tune\.space: optim\.rate: must be an option of model,.* did you mean optim\.",
        ),
        ({"data.shard_rows": [1, 2]}, r"tune\.space: data\.shard_rows: must be an option of model, augment"),
    ],
)
def test_a_space_of_other_things_is_refused(space: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        draw_trials(config(space))


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"optim.lr": []}, r"tune\.space: must be a list of values or a range for optim\.lr, got \(\)"),
        ({"optim.lr": {"low": 1.0, "high": 0.5}}, r"tune\.space: must be a range with low < high, got \(1\.0, 0\.5\)"),
        ({"optim.lr": {"low": 0.0, "high": 0.5, "log": True}}, r"low < high, low > 0, got \(0\.0, 0\.5\)"),
    ],
)
def test_a_space_without_values_is_refused(space: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        config(space)


def test_a_value_that_an_option_does_not_take_is_refused_before_anything_trains() -> None:
    search = config({"model.width": [16, 0]})
    with pytest.raises(ConfigError, match=r"tune\.space: model\.width: must be in 1\.\.512, got 0"):
        trial_config(search, 0, {"model.width": 0})


def test_rungs_grow_by_the_reduction_up_to_the_last_epoch() -> None:
    assert list(make_rungs(40, 4, 3)) == [4, 12, 36, 40]
    assert list(make_rungs(36, 4, 3)) == [4, 12, 36]
    assert list(make_rungs(3, 4, 3)) == [3]


def test_the_table_shows_the_best_first_and_what_failed() -> None:
    rows = [
        {"trial": 1, "score": 0.5, "epochs": 4, "options": {"optim.lr": 0.01}},
        {"trial": 0, "score": None, "epochs": 0, "options": {"optim.lr": 10.0}},
    ]
    assert format_table(rows) == [
        "trial   score  epochs  optim.lr",
        "1      0.5000       4      0.01",
        "0      failed       0      10.0",
    ]
