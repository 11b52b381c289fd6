"""The four stages in a row, locally and in S3, with one worker and with two."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

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


def test_the_four_stages_give_the_same_results_in_s3_as_on_disk(
    make_config: Callable[..., Config], s3_bucket: str
) -> None:
    local, remote = make_config(), make_config(run__storage=s3_bucket)
    here, there = run_all(local), run_all(remote)

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
    assert page.startswith("<!doctype html>".upper()) or page.lower().startswith("<!doctype html>")


def test_predictions_agree_with_the_last_validation_of_training(make_config: Callable[..., Config]) -> None:
    config = make_config()
    result = run_all(config)
    best = find_checkpoint(config.train_uri, "best")
    row = next(row for row in read_history(config.train_uri) if row["epoch"] == best.info.epoch)
    assert open_table(config.predictions_uri).success.totals["confusion"] == row["confusion"]
    assert result.miou == row["miou"] == best.info.miou

    again = predict.run(config)
    assert again.already_complete
    assert again == predict.PredictResult(**{**vars(result), "already_complete": True})


def test_masks_stored_as_png_hold_the_same_ids(make_config: Callable[..., Config]) -> None:
    config = make_config()
    run_all(config)
    other = make_config(predict__mask_encoding="png", predict__output=f"{config.run_uri}/png")
    predict.run(other)
    columns = ["row_id", "pred_mask", "height", "width"]
    raw, png = (open_table(uri).read(columns).to_pylist() for uri in (config.predictions_uri, other.predictions_uri))
    for one, two in zip(raw, png, strict=True):
        size = one["height"], one["width"]
        mask = decode_stored_mask(one["pred_mask"], *size, "raw")
        np.testing.assert_array_equal(mask, decode_stored_mask(two["pred_mask"], *size, "png"))


def test_two_workers_count_every_validation_row_once_and_as_one_worker_does(
    make_config: Callable[..., Config],
) -> None:
    one = make_config(run__name="one", train__epochs="1")
    two = make_config(run__name="two", train__epochs="1", scaling__num_workers="2", data__dataset=one.dataset_uri)
    prepare.run(one)
    train.run(one)
    train.run(two)

    rows = open_table(one.dataset_uri).read(["split", "height", "width"]).to_pylist()
    val = [row for row in rows if row["split"] == "val"]
    assert len(val) == 7  # odd, and two batches of at most four: the workers get unequal shares
    first, second = (read_history(config.train_uri)[0] for config in (one, two))
    assert first["epoch"] == second["epoch"] == 0
    assert first["confusion"] == second["confusion"]
    assert sum(first["confusion"]) == sum(row["height"] * row["width"] for row in val)
    assert np.count_nonzero(first["confusion"]) > 8
    final = read_history(two.train_uri)[-1]
    assert sum(final["confusion"]) == sum(first["confusion"])


def test_a_finished_run_is_left_alone_and_other_settings_are_refused_by_name(
    make_config: Callable[..., Config],
) -> None:
    config = make_config(train__epochs="1")
    first = prepare.run(config)
    assert prepare.run(config).already_complete
    trained = train.run(config)
    again = train.run(config)
    assert again.already_complete
    assert again.checkpoint == trained.checkpoint
    with pytest.raises(PlanMismatchError, match=r"optim\.lr: .* was begun with 0\.002, this job has 0\.01"):
        train.run(make_config(train__epochs="1", optim__lr="0.01"))
    with pytest.raises(PlanMismatchError, match=r"data\.resize: .* was begun with null, this job has \[48, 48\]"):
        prepare.run(make_config(data__resize="[48, 48]"))
    assert first.ok == 28


def test_early_stopping_ends_the_run_and_says_so_in_the_history(make_config: Callable[..., Config]) -> None:
    config = make_config(train__epochs="30", train__patience="1", optim__lr="1e-9", train__eval_every="1")
    prepare.run(config)
    result = train.run(config)
    assert result.epochs < 30
    assert read_history(config.train_uri)[-1]["epoch"] == result.epochs
    assert train.run(config).already_complete


def test_resized_datasets_train_at_that_size_and_predict_frames_of_any_other(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = make_config(data__resize="[32, 48]", train__epochs="1")
    run_all(config)
    frames = f"{config.run_uri}/frames"
    raw = make_config(
        predict__images=f"{frames}/images", predict__masks=f"{frames}/masks", predict__output=str(tmp_path / "raw")
    )
    result = predict.run(raw)
    assert result.ok == 28
    rows = open_table(raw.predictions_uri).read(["height", "width", "confusion"]).to_pylist()
    assert {(row["height"], row["width"]) for row in rows} == {(48, 64)}
    assert all(sum(row["confusion"]) == 48 * 64 for row in rows)


def test_every_output_carries_its_resolved_configuration(make_config: Callable[..., Config]) -> None:
    config = make_config(train__epochs="1")
    run_all(config)
    for uri in (config.dataset_uri, config.train_uri, config.predictions_uri):
        assert b"storage:" in storage.read_bytes(f"{uri}/config.yaml")
    stats = json.loads(storage.read_bytes(f"{config.dataset_uri}/stats.json"))
    assert stats["splits"]["train"]["ok"] == 21
    part = open_table(config.predictions_uri).part_uris()[0]
    kinds = {str(field.type) for field in pq.read_schema(part)}
    assert not any("extension" in kind for kind in kinds)
