"""K-Means on a cluster: the centroids of one process, and true masks of colours where a model is scored."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.faults import inline
from tests.unit.image_files import encode
from unet_ray import pipeline, prepare, runtime, storage
from unet_ray.config import Config
from unet_ray.datasets.prepared import open_dataset
from unet_ray.datasets.synthetic import PALETTE, render_frame
from unet_ray.predict import run as predict
from unet_ray.table.read import open_table
from unet_ray.train import run as train

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.fixture
def street(tmp_path: Path) -> str:
    """Frames of four drives, with JPEG masks of colours."""
    for sequence in range(4):
        for frame in range(7):
            image, ids = render_frame(0, sequence, frame, 48, 64)
            key = f"drive_{sequence}/{frame:03d}"
            storage.write(f"{tmp_path}/in/images/{key}.png", encode(image, "PNG"))
            storage.write(f"{tmp_path}/in/masks/{key}.jpg", encode(np.array(PALETTE, np.uint8)[ids], "JPEG"))
    return f"{tmp_path}/in"


def test_centroids_of_a_cluster_are_those_of_one_process_and_score_masks_they_never_saw(
    street: str, make_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: dict[str, Any] = {
        "data__layout": "folder", "data__root": street, "labels__scheme": "kmeans", "labels__clusters": "6",
        "train__epochs": "1",
    }  # fmt: skip
    config = make_config(**changes)
    prepare.run(config)
    clusters = open_dataset(config.dataset_uri)
    assert clusters.classes.num_classes == 6

    train.run(config)
    scored = predict.run(config)
    raw = make_config(
        **changes, predict__images=f"{street}/images", predict__masks=f"{street}/masks",
        predict__output=f"{tmp_path}/raw",
    )  # fmt: skip
    assert predict.run(raw).ok == 28
    columns = ["image_id", "confusion"]
    by_dataset = {row["image_id"]: row["confusion"] for row in open_table(scored.predictions).read(columns).to_pylist()}
    by_file = {row["image_id"]: row["confusion"] for row in open_table(f"{tmp_path}/raw").read(columns).to_pylist()}
    assert len(by_dataset) == 7
    for image_id, confusion in by_dataset.items():
        assert confusion == by_file[image_id.removeprefix("images/")]

    monkeypatch.setattr(pipeline, "transform", inline.transform)
    monkeypatch.setattr(pipeline, "collect", inline.collect)
    monkeypatch.setattr(runtime, "require_cpus", lambda scaling: 1)
    alone = make_config(**changes, data__dataset=f"{tmp_path}/alone")
    prepare.run(alone)
    assert open_table(alone.dataset_uri).plan.run_id == clusters.table.plan.run_id
