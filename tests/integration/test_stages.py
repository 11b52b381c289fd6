"""The four stages in a row, locally and in S3, with one worker and with two."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.integration.conftest import tiny_config
from tests.unit.image_files import encode
from unet_ray import compare, drift, model_export, prepare, stages, storage
from unet_ray.checkpoint import find_checkpoint
from unet_ray.config import Config
from unet_ray.datasets import synthetic
from unet_ray.errors import ConfigError, PlanMismatchError
from unet_ray.history import read_history
from unet_ray.images.encode import decode_stored_mask
from unet_ray.job_record import read_job
from unet_ray.predict import run as predict
from unet_ray.table.read import open_table
from unet_ray.table.verify import verify
from unet_ray.train import run as train

pytestmark = pytest.mark.usefixtures("ray_cluster")

SUMS = ["channel_sum", "class_pixels", "confusion", "calibration", "confidence_sum", "entropy_sum", "boundary_length"]
MASKS = ["row_id", "image_id", "group", "frame", "pred_mask", *SUMS]


def test_a_pipeline_of_the_four_stages_gives_the_same_results_in_s3_as_they_do_on_disk(
    finished: tuple[Config, predict.PredictResult], tmp_path: Path, s3_bucket: str
) -> None:
    local, here = finished
    remote = tiny_config(tmp_path, run__storage=s3_bucket)
    there = stages.run(remote).predict

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
    everything = stages.run(config)
    assert everything.prepare is not None
    assert everything.prepare.already_complete
    assert (everything.train, everything.predict) == (again, predict.run(config))
    elsewhere = stages.run(replace(config, data=replace(config.data, dataset=config.dataset_uri)))
    assert elsewhere.prepare is None
    assert elsewhere.report == everything.report
    with pytest.raises(PlanMismatchError, match=r"optim\.lr: .* was begun with 0\.002, this job has 0\.01"):
        train.run(tiny_config(root, optim__lr="0.01"))
    with pytest.raises(PlanMismatchError, match=r"data\.resize: .* was begun with null, this job has \[48, 48\]"):
        prepare.run(tiny_config(root, data__resize="[48, 48]"))
    with pytest.raises(PlanMismatchError, match=r"data\.val_fraction: .* was begun with 0\.25, this job has 0\.5"):
        prepare.run(tiny_config(root, data__val_fraction="0.5"))
    with pytest.raises(PlanMismatchError, match=r'predict\.split: .* was begun with "val", this job has "train"'):
        predict.run(tiny_config(root, predict__split="train"))


def test_planes_hold_what_the_sums_count_and_tiles_and_png_give_the_same_masks(
    finished: tuple[Config, predict.PredictResult], tmp_path: Path
) -> None:
    config, _ = finished
    output = str(tmp_path / "png")
    predict.run(
        tiny_config(
            Path(config.run.storage), predict__mask_encoding="png", predict__output=output,
            predict__planes="[confidence, second_mask]", predict__forward_pixels="1024",
        )
    )  # fmt: skip
    planes = ["pred_mask", "confidence", "second_mask"]
    columns = [*planes, "height", "width", "class_pixels", "confidence_sum", "entropy_sum"]
    whole, tiled = (open_table(uri).read(columns).to_pylist() for uri in (config.predictions_uri, output))
    for one, two in zip(whole, tiled, strict=True):
        size = one["height"], one["width"]
        mask = decode_stored_mask(one["pred_mask"], *size, "raw")
        same, confidence, second = (decode_stored_mask(two[name], *size, "png") for name in planes)
        assert (one["confidence"], one["second_mask"]) == (None, None)
        assert (mask == same).mean() > 0.99
        assert (second != same).all()
        sums = [int(confidence[same == class_id].sum()) for class_id in range(len(two["class_pixels"]))]
        assert two["confidence_sum"] == sums
        assert abs(sum(one["confidence_sum"]) / sum(sums) - 1) < 0.01
        assert 0 < two["entropy_sum"] < 255 * mask.size
        assert abs(one["entropy_sum"] / two["entropy_sum"] - 1) < 0.01
    totals = open_table(output).success.totals
    assert totals["entropy_sum"] == [sum(row["entropy_sum"] for row in tiled)]
    assert totals["confidence_sum"] == np.sum([row["confidence_sum"] for row in tiled], axis=0).tolist()


def test_flipped_and_scaled_views_change_masks_a_little_and_have_a_table_of_their_own(
    finished: tuple[Config, predict.PredictResult], tmp_path: Path
) -> None:
    config, plain = finished
    views = {"predict__flips": "horizontal", "predict__scales": "[1, 1.5]"}
    with pytest.raises(PlanMismatchError, match=r'predict\.flips: .* was begun with "none", this job has "horizontal"'):
        predict.run(tiny_config(Path(config.run.storage), **views))
    output = str(tmp_path / "views")
    result = predict.run(tiny_config(Path(config.run.storage), predict__output=output, **views))
    assert result.ok == plain.ok
    assert result.miou != plain.miou
    assert result.miou is not None
    assert plain.miou is not None
    assert abs(result.miou - plain.miou) < 0.2
    found = compare.run(config.predictions_uri, output)
    assert found.compared == plain.ok
    assert found.pixel_agreement is not None
    assert 0.5 < found.pixel_agreement < 1
    assert 0 < len(found.most_changed) <= 7


def test_an_exported_model_segments_as_its_checkpoint_does(
    finished: tuple[Config, predict.PredictResult], tmp_path: Path, s3_bucket: str
) -> None:
    config, _ = finished
    exported = model_export.run(config.train_uri, f"{s3_bucket}/models/tiny.onnx")
    root, tables = Path(config.run.storage), []
    for name, checkpoint in (("folder", exported.checkpoint), ("file", exported.file)):
        output = {"predict__checkpoint": checkpoint, "predict__output": f"{tmp_path}/{name}"}
        result = predict.run(tiny_config(root, scaling__precision="fp32", **output))
        assert result.checkpoint == checkpoint
        tables.append(open_table(result.predictions))
    assert tables[1].plan.settings["predict.checkpoint"] == exported.sha256[:16]
    with pytest.raises(PlanMismatchError, match=r"predict\.checkpoint: .* was begun with"):
        predict.run(
            tiny_config(
                root, predict__checkpoint=exported.file, predict__output=f"{tmp_path}/folder", scaling__precision="fp32"
            )
        )
    found = compare.run(*(table.uri for table in tables))
    assert found.compared == 7
    assert found.pixel_agreement is not None
    assert found.pixel_agreement > 0.999


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


def test_a_run_begins_where_another_ended_and_early_stopping_ends_it_for_good(
    finished: tuple[Config, predict.PredictResult], make_config: Callable[..., Config]
) -> None:
    before, answers = finished
    config = make_config(
        train__epochs="30", train__patience="1", train__start_from=before.train_uri, optim__lr="1e-9",
        data__dataset=before.dataset_uri,
    )  # fmt: skip
    result = train.run(config)
    assert read_history(config.train_uri)[0]["miou"] == answers.miou
    assert result.epochs < 30
    assert read_history(config.train_uri)[-1]["epoch"] == result.epochs
    assert train.run(config).already_complete


def test_resized_datasets_train_an_unpadded_network_that_predicts_frames_of_any_size(
    finished: tuple[Config, predict.PredictResult], make_config: Callable[..., Config], tmp_path: Path
) -> None:
    frames = f"{finished[0].run_uri}/frames"
    changes = {
        "data__root": frames, "data__resize": "[32, 48]", "train__epochs": "1",
        "model__kind": "unet_valid", "loss__border_classes": "[car]", "augment__elastic": "1.0",
    }  # fmt: skip
    prepare.run(make_config(**changes))
    train.run(make_config(**changes))
    raw = make_config(
        predict__images=f"{frames}/images", predict__masks=f"{frames}/masks", predict__output=str(tmp_path / "raw")
    )
    with pytest.raises(ConfigError, match=r"predict\.scales: must be \[1\] for unet_valid, .*; got \[0\.5, 1\.0\]"):
        predict.run(replace(raw, predict=replace(raw.predict, scales=(0.5, 1.0))))
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
    both = {"load", "write"}
    for uri, wanted in ((config.dataset_uri, both), (config.predictions_uri, both | {"infer", "describe"})):
        job = read_job(uri)
        assert job is not None
        assert job["rows"] == open_table(uri).success.num_rows
        assert set(job["stages"]) == wanted
        assert all(stage["seconds"] > 0 and stage["cpu_seconds"] > 0 for stage in job["stages"].values())
        assert job["stages"]["load"]["bytes_read"] > 0
    part = open_table(config.predictions_uri).part_uris()[0]
    assert not any("extension" in str(field.type) for field in pq.read_schema(part))


def test_a_brightened_copy_has_drifted_and_one_that_was_encoded_again_has_not(
    finished: tuple[Config, predict.PredictResult], tmp_path: Path
) -> None:
    root = Path(finished[0].run.storage)
    copies: dict[str, tuple[str, Callable[[np.ndarray], bytes]]] = {
        "known": ("png", lambda image: encode(image, "PNG")),
        "again": ("jpg", lambda image: encode(image, "JPEG", quality=90)),
        "brighter": ("png", lambda image: encode(np.minimum(image.astype(int) + 40, 255).astype(np.uint8), "PNG")),
    }
    for name, (suffix, copy) in copies.items():
        for number in range(120):
            image, _ = synthetic.render_frame(1, number // 6, number % 6, 48, 64)
            path = tmp_path / name / f"{number // 6}" / f"{number % 6}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(copy(image))
        predict.run(tiny_config(root, predict__images=str(tmp_path / name), predict__output=f"{tmp_path}/to_{name}"))
    known, again, brighter = (f"{tmp_path}/to_{name}" for name in copies)
    assert drift.run(again, known).largest == 0
    found = drift.run(brighter, known)
    assert found.frames == 120
    assert found.shifts[0].is_large
    assert {one.number for one in found.shifts if one.is_large} >= {"brightness"}
    assert drift.run(brighter, brighter).largest == 0
