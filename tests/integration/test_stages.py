"""The four stages in a row, locally and in S3, with one worker and with two."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.integration.conftest import tiny_config
from unet_ray import prepare, storage
from unet_ray.checkpoint import find_checkpoint
from unet_ray.config import Config
from unet_ray.errors import PlanMismatchError
from unet_ray.history import read_history
from unet_ray.images.encode import decode_stored_mask
from unet_ray.predict import run as predict
from unet_ray.report import run as report
from unet_ray.table.read import open_table
from unet_ray.table.verify import verify
from unet_ray.train import run as train

pytestmark = pytest.mark.usefixtures("ray_cluster")

MASKS = ["row_id", "image_id", "group", "frame", "pred_mask", "class_pixels", "confusion"]


def run_all(config: Config) -> predict.PredictResult:
    prepare.run(config)
    train.run(config)
    result = predict.run(config)
    report.run(config)
    return result


@pytest.fixture(scope="module")
def finished(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, predict.PredictResult]:
    """A run on local disk with all four stages done; tests read it, and add outputs of their own."""
    config = tiny_config(tmp_path_factory.mktemp("finished"))
    return config, run_all(config)


def test_the_four_stages_give_the_same_results_in_s3_as_on_disk(
    finished: tuple[Config, predict.PredictResult], tmp_path: Path, s3_bucket: str
) -> None:
    local, here = finished
    remote = tiny_config(tmp_path, run__storage=s3_bucket)
    there = run_all(remote)

    assert here.frames == there.frames == 7
    assert (here.miou, here.pixel_accuracy) == (there.miou, there.pixel_accuracy)
    weights = [find_checkpoint(config.train_uri, "last").info.model_sha256 for config in (local, remote)]
    assert weights[0] == weights[1]
    for name in ("dataset", "predictions"):
        tables = [open_table(f"{config.run_uri}/{name}") for config in (local, remote)]
        assert tables[0].success.totals == tables[1].success.totals
        assert verify(tables[1].uri).problems == ()
    masks = [open_table(config.predictions_uri).read(MASKS) for config in (local, remote)]
    assert masks[0].equals(masks[1])
    page = storage.read_bytes(f"{remote.report_uri}/index.html").decode()
    assert page.lower().startswith("<!doctype html>")


def test_predictions_agree_with_the_best_validation_of_training(
    finished: tuple[Config, predict.PredictResult],
) -> None:
    config, result = finished
    best = find_checkpoint(config.train_uri, "best")
    row = next(row for row in read_history(config.train_uri) if row["epoch"] == best.info.epoch)
    assert open_table(config.predictions_uri).success.totals["confusion"] == row["confusion"]
    assert result.miou == row["miou"] == best.info.score


def test_finished_stages_are_left_alone_and_other_settings_are_refused_by_name(
    finished: tuple[Config, predict.PredictResult],
) -> None:
    config, result = finished
    root = Path(config.run.storage)
    assert prepare.run(config).already_complete
    again = train.run(config)
    assert again.already_complete
    assert again.checkpoint == find_checkpoint(config.train_uri, "best").info.uri
    assert predict.run(config) == predict.PredictResult(**{**vars(result), "already_complete": True})
    with pytest.raises(PlanMismatchError, match=r"optim\.lr: .* was begun with 0\.002, this job has 0\.01"):
        train.run(tiny_config(root, optim__lr="0.01"))
    with pytest.raises(PlanMismatchError, match=r"data\.resize: .* was begun with null, this job has \[48, 48\]"):
        prepare.run(tiny_config(root, data__resize="[48, 48]"))
    with pytest.raises(PlanMismatchError, match=r"data\.val_fraction: .* was begun with 0\.25, this job has 0\.5"):
        prepare.run(tiny_config(root, data__val_fraction="0.5"))
    with pytest.raises(PlanMismatchError, match=r'predict\.split: .* was begun with "val", this job has "train"'):
        predict.run(tiny_config(root, predict__split="train"))


def test_masks_stored_as_png_hold_the_same_ids(finished: tuple[Config, predict.PredictResult], tmp_path: Path) -> None:
    config, _ = finished
    output = str(tmp_path / "png")
    predict.run(tiny_config(Path(config.run.storage), predict__mask_encoding="png", predict__output=output))
    columns = ["row_id", "pred_mask", "height", "width"]
    raw, png = (open_table(uri).read(columns).to_pylist() for uri in (config.predictions_uri, output))
    for one, two in zip(raw, png, strict=True):
        size = one["height"], one["width"]
        mask = decode_stored_mask(one["pred_mask"], *size, "raw")
        np.testing.assert_array_equal(mask, decode_stored_mask(two["pred_mask"], *size, "png"))


def test_two_workers_count_every_validation_row_once_and_as_one_worker_does(
    finished: tuple[Config, predict.PredictResult], tmp_path: Path
) -> None:
    one, _ = finished
    two = tiny_config(tmp_path, train__epochs="1", scaling__num_workers="2", data__dataset=one.dataset_uri)
    train.run(two)

    rows = open_table(one.dataset_uri).read(["split", "height", "width"]).to_pylist()
    val = [row for row in rows if row["split"] == "val"]
    assert len(val) == 7  # odd, and two batches of at most four: the workers get unequal shares
    first, second = (read_history(config.train_uri)[0] for config in (one, two))
    assert first["epoch"] == second["epoch"] == 0  # the same weights: nobody has trained yet
    assert first["confusion"] == second["confusion"]
    assert sum(first["confusion"]) == sum(row["height"] * row["width"] for row in val)
    assert np.count_nonzero(first["confusion"]) > 8
    assert sum(read_history(two.train_uri)[-1]["confusion"]) == sum(first["confusion"])


def test_early_stopping_ends_the_run_for_good(
    finished: tuple[Config, predict.PredictResult], make_config: Callable[..., Config]
) -> None:
    config = make_config(
        train__epochs="30", train__patience="1", optim__lr="1e-9", data__dataset=finished[0].dataset_uri
    )
    result = train.run(config)
    assert result.epochs < 30
    assert read_history(config.train_uri)[-1]["epoch"] == result.epochs
    assert train.run(config).already_complete


def test_resized_datasets_train_at_that_size_and_predict_frames_of_any_other(
    finished: tuple[Config, predict.PredictResult], make_config: Callable[..., Config], tmp_path: Path
) -> None:
    frames = f"{finished[0].run_uri}/frames"
    changes = {"data__root": frames, "data__resize": "[32, 48]", "train__epochs": "1"}
    prepare.run(make_config(**changes))
    train.run(make_config(**changes))
    raw = make_config(
        predict__images=f"{frames}/images", predict__masks=f"{frames}/masks", predict__output=str(tmp_path / "raw")
    )
    result = predict.run(raw)
    assert result.ok == 28
    rows = open_table(raw.predictions_uri).read(["height", "width", "confusion"]).to_pylist()
    assert {(row["height"], row["width"]) for row in rows} == {(48, 64)}
    assert all(sum(row["confusion"]) == 48 * 64 for row in rows)


def test_every_output_carries_its_resolved_configuration_and_plain_columns(
    finished: tuple[Config, predict.PredictResult],
) -> None:
    config, _ = finished
    for uri in (config.dataset_uri, config.train_uri, config.predictions_uri):
        assert b"storage:" in storage.read_bytes(f"{uri}/config.yaml")
    stats = json.loads(storage.read_bytes(f"{config.dataset_uri}/stats.json"))
    assert stats["splits"]["train"]["ok"] == 21
    assert stats["input"]["split"]["rows"] == {"train": 21, "val": 7, "test": 0}
    part = open_table(config.predictions_uri).part_uris()[0]
    assert not any("extension" in str(field.type) for field in pq.read_schema(part))
