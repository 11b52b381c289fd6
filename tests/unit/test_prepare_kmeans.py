"""K-Means from masks to a dataset, by the driver of `prepare.run` with a loop for a cluster."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.faults.inline import collect, transform
from tests.unit.image_files import encode, gradient
from tests.unit.inline_table import begin, finish
from tests.unit.test_kmeans import COLOURS, draw_mask
from unet_ray import pipeline, prepare, runtime, storage
from unet_ray.checkpoint import ModelCard
from unet_ray.config import Config
from unet_ray.config_file import parse_config
from unet_ray.config_training import ModelSection
from unet_ray.datasets.frames import read_frame
from unet_ray.datasets.prepared import open_dataset, read_pair
from unet_ray.errors import ConfigError, DatasetError, PlanMismatchError, TableError
from unet_ray.images.encode import decode_stored_mask
from unet_ray.table.read import open_table

PAIRS = 10


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "transform", transform)
    monkeypatch.setattr(pipeline, "collect", collect)
    monkeypatch.setattr(runtime, "require_cpus", lambda scaling: 1)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Config]:
    for number in range(PAIRS):
        storage.write(f"{tmp_path}/in/images/{number}.png", encode(gradient(32, 48), "PNG"))
        storage.write(f"{tmp_path}/in/masks/{number}.jpg", encode(draw_mask(number), "JPEG"))

    def config(**changes: Any) -> Config:
        document = {
            "run": {"storage": str(tmp_path)},
            "data": {"root": f"{tmp_path}/in", "shard_rows": 4, "max_quarantined_fraction": 1.0},
            "labels": {"scheme": "kmeans", "clusters": 5},
        }
        return parse_config(document, {key.replace("__", "."): str(value) for key, value in changes.items()}, "test")

    return config


def test_jpeg_masks_become_the_clusters_of_their_colours(make: Callable[..., Config]) -> None:
    config = make()
    result = prepare.run(config)
    assert (result.ok, result.quarantined) == (PAIRS, 0)
    prepared = open_dataset(config.dataset_uri)
    assert list(prepared.classes.classes) == prepared.stats["classes"] == [f"cluster_{k}" for k in range(5)]
    assert np.abs(np.array(prepared.classes.palette) - COLOURS).max() <= 20
    right = pixels = 0
    for row in open_table(config.dataset_uri).read(["image_id", "mask"]).to_pylist():
        true = draw_mask(int(Path(row["image_id"]).stem))
        ids = decode_stored_mask(row["mask"], 32, 48, "png")
        right += (COLOURS[ids] == true).all(axis=2).sum()
        pixels += ids.size
    assert right / pixels > 0.9


def test_a_finished_dataset_is_left_alone_and_other_labels_are_refused_as_they_were_typed(
    make: Callable[..., Config],
) -> None:
    prepare.run(make())
    assert prepare.run(make()).already_complete
    for changes, message in (
        ({"labels__clusters": 4}, r"labels\.clusters: .* was begun with 5, this job has 4"),
        ({"labels__mode_filter": 3}, r"labels\.mode_filter: .* was begun with null, this job has 3"),
        ({"run__seed": 1}, r"run\.seed: .* was begun with 0, this job has 1"),
        ({"labels__scheme": "bins"}, r'labels\.scheme: .* was begun with "kmeans", this job has "bins"'),
    ):
        with pytest.raises(PlanMismatchError, match=message):
            prepare.run(make(**changes))


def test_labels_of_every_scheme_are_compared_by_key(make: Callable[..., Config]) -> None:
    prepare.run(make(labels__scheme="bins"))
    with pytest.raises(PlanMismatchError, match=r"labels\.bin_width: .* was begun with 20, this job has 30"):
        prepare.run(make(labels__scheme="bins", labels__bin_width=30))
    with pytest.raises(PlanMismatchError, match=r'labels\.scheme: .* was begun with "bins", this job has "kmeans"'):
        prepare.run(make())


def test_another_seed_is_recorded_and_gives_a_dataset_of_its_own(make: Callable[..., Config], tmp_path: Path) -> None:
    prepare.run(make())
    prepare.run(make(run__seed=1, data__dataset=f"{tmp_path}/other"))
    one, other = (open_table(uri).plan for uri in (make().dataset_uri, f"{tmp_path}/other"))
    assert (one.settings["run.seed"], other.settings["run.seed"]) == (0, 1)
    assert one.run_id != other.run_id


def test_centroids_are_taken_from_another_dataset_instead_of_fitted(
    make: Callable[..., Config], tmp_path: Path
) -> None:
    first = make()
    prepare.run(first)
    for number in range(PAIRS):
        storage.write(f"{tmp_path}/in/masks/{number}.jpg", encode(draw_mask(number) // 2, "JPEG"))
    again = make(labels__centroids=first.dataset_uri, data__dataset=f"{tmp_path}/again")
    prepare.run(again)
    assert open_dataset(again.dataset_uri).classes == open_dataset(first.dataset_uri).classes
    assert prepare.run(again).already_complete
    refitted = make(data__dataset=f"{tmp_path}/refitted")
    prepare.run(refitted)
    assert open_dataset(refitted.dataset_uri).classes != open_dataset(first.dataset_uri).classes


def test_centroids_of_a_dataset_without_clusters_are_refused(make: Callable[..., Config], tmp_path: Path) -> None:
    binned = make(labels__scheme="bins")
    prepare.run(binned)
    finish(begin(f"{tmp_path}/predictions"))
    for uri in (binned.dataset_uri, f"{tmp_path}/predictions"):
        with pytest.raises(
            DatasetError, match=r"^labels\.centroids: .* was prepared without centroids; take a dataset"
        ):
            prepare.run(make(labels__centroids=uri, data__dataset=f"{tmp_path}/other"))
    with pytest.raises(TableError, match="no table here"):
        prepare.run(make(labels__centroids=f"{tmp_path}/nothing", data__dataset=f"{tmp_path}/other"))


def test_more_clusters_than_colours_stop_the_job_before_anything_is_written(
    make: Callable[..., Config], tmp_path: Path
) -> None:
    for number in range(PAIRS):
        (tmp_path / f"in/masks/{number}.jpg").unlink()
        storage.write(f"{tmp_path}/in/masks/{number}.png", encode(draw_mask(number), "PNG"))
    config = make(labels__clusters=6)
    with pytest.raises(ConfigError, match=r"labels\.clusters: must be at most 5, the colours in .*, got 6"):
        prepare.run(config)
    assert not Path(config.dataset_uri).exists()


def test_a_model_card_carries_the_centroids_to_true_masks_it_never_saw(
    make: Callable[..., Config], tmp_path: Path
) -> None:
    config = make()
    prepare.run(config)
    prepared = open_dataset(config.dataset_uri)
    card = ModelCard(class_map=prepared.classes, model=ModelSection(), mean=(0.0,) * 3, std=(1.0,) * 3,
                     input_size=None, dataset_run_id="")  # fmt: skip
    read_back = ModelCard.from_json(json.loads(json.dumps(asdict(card))))
    table = prepared.table
    row = {"part_uri": None, "image_uri": f"{tmp_path}/in/images/3.png", "mask_uri": f"{tmp_path}/in/masks/3.jpg"}
    _, true_mask = read_frame(row, read_back.class_map, config.images)
    part, position = next(
        (uri, rows.column("image_id").to_pylist().index("images/3.png"))
        for uri, rows in zip(table.part_uris(), table.scan(["image_id"]), strict=True)
        if "images/3.png" in rows.column("image_id").to_pylist()
    )
    assert np.array_equal(true_mask, decode_stored_mask(read_pair(part, position)[1], 32, 48, "png"))


def test_a_mask_of_an_unknown_colour_is_quarantined_and_the_others_are_not(
    make: Callable[..., Config], tmp_path: Path
) -> None:
    for number in range(PAIRS):
        (tmp_path / f"in/masks/{number}.jpg").unlink()
        mask = draw_mask(number)
        if number == 7:
            mask[3, 4:9] = (1, 2, 3)
        storage.write(f"{tmp_path}/in/masks/{number}.png", encode(mask, "PNG"))
    names = [f"class_{number}" for number in range(len(COLOURS))]
    config = make(labels__scheme="colours", labels__classes=names, labels__palette=COLOURS.tolist())
    result = prepare.run(config)
    assert (result.ok, result.errors) == (PAIRS - 1, {"unknown_colour": 1})
    [bad] = [
        row
        for row in open_table(config.dataset_uri).read(["image_id", "error_code", "error_message"]).to_pylist()
        if row["error_code"]
    ]
    assert bad["image_id"] == "images/7.png"
    assert bad["error_message"].endswith(
        "masks/7.png: colours (1, 2, 3) (5 px) are not known (labels.palette, labels.max_distance)"
    )
    near = make(labels__scheme="colours", labels__classes=names, labels__palette=COLOURS.tolist(),
                labels__max_distance=5, data__dataset=f"{tmp_path}/near")  # fmt: skip
    assert prepare.run(near).ok == PAIRS
