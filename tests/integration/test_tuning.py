"""A search of a few trials under the real Ray Tune."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from unet_ray import prepare, tuning
from unet_ray.checkpoint import list_checkpoints
from unet_ray.config import Config
from unet_ray.config_file import load_config
from unet_ray.history import read_history

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.mark.nightly
def test_a_search_trains_the_better_trials_on_and_outlives_those_that_fail(
    make_config: Callable[..., Config],
) -> None:
    space = "{optim.lr: [3.0e-3, 1.0e-9], loss.class_weights: [sqrt, [1.0, 2.0]]}"
    config = make_config(tune__space=space, tune__trials="4", tune__grace_epochs="1", tune__reduction="2")
    prepare.run(config)
    result = tuning.run(config)

    assert (result.trials, result.failed) == (4, 2)
    assert result.options == {"optim.lr": 3e-3, "loss.class_weights": "sqrt"}
    rows = json.loads(Path(result.results).read_text())
    assert [row["score"] is None for row in rows] == [False, False, True, True]
    assert all("loss.class_weights" in row["error"] for row in rows[2:])
    assert rows[0]["score"] == result.score
    assert (rows[0]["epochs"], rows[1]["epochs"]) == (2, 1)
    assert [path for path in Path(config.run_uri, "tune", "_ray").rglob("*") if path.is_file()] == []

    best = load_config(result.best)
    assert best.optim.lr == 3e-3
    assert (best.run, best.data.dataset) == (config.run, None)
    runs = [Path(config.run_uri, "tune", f"trial-{row['trial']:03d}", "train") for row in rows[:2]]
    assert [read_history(str(uri))[-1]["epoch"] for uri in runs] == [2, 1]

    before = [list_checkpoints(str(uri)) for uri in runs]
    again = tuning.run(config)  # trials that were decided are told of, not trained again
    assert again.score == result.score
    assert [list_checkpoints(str(uri)) for uri in runs] == before
