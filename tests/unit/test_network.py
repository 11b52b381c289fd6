"""Rows of predictions as an actor makes them from the units of a plan, without Ray."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.unit.image_files import encode
from tests.unit.tiny_training import CARD
from unet_ray import model_export
from unet_ray.checkpoint import save_checkpoint
from unet_ray.config_file import parse_config
from unet_ray.datasets.frames import load_frames
from unet_ray.metrics import count_components, count_lasting
from unet_ray.model.network import SegmentationNetwork
from unet_ray.predict.describe import Describe
from unet_ray.predict.network import Network
from unet_ray.predict.plan import open_model, plan_predictions, rows_around
from unet_ray.quality import Estimator

pytestmark = pytest.mark.usefixtures("one_thread")

ESTIMATOR = Estimator(intercept=0.1, slope=0.8, error=0.05, frames=50)
SHAPE = (32, 48)
Row = dict[str, Any]


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """Two sequences of eleven frames that drift; the fourth is as the third, the 17th of all broken."""
    for group in ("left", "right"):
        texture = np.random.default_rng(len(group)).integers(0, 256, (SHAPE[0], SHAPE[1] + 40, 3), np.uint8)
        folder = tmp_path / "frames" / group
        folder.mkdir(parents=True)
        for number in range(11):
            shift = 2 * (number - (number == 3))
            data = encode(np.ascontiguousarray(texture[:, shift : shift + SHAPE[1]]), "PNG")
            (folder / f"{number:02}.png").write_bytes(data)
    (tmp_path / "frames/right/05.png").write_bytes(b"no image")
    return tmp_path


def untrained() -> SegmentationNetwork:
    torch.manual_seed(1)
    model = CARD.build()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.7)
    return model.eval()


def predict(
    frames: Path, estimator: Estimator | None = ESTIMATOR, *, exported: bool = False, **options: object
) -> list[Row]:
    """Return the rows of all frames, by a checkpoint or by its export."""
    document = {
        "run": {"storage": str(frames), "name": "run"},
        "predict": {"images": f"{frames}/frames", "output": f"{frames}/{len(list(frames.iterdir()))}", **options},
    }  # fmt: skip
    config = parse_config(document, {}, "test")
    model = untrained()
    save_checkpoint(
        config.train_uri, card=CARD, model=model, optimizer=torch.optim.SGD(model.parameters()), step=0, epoch=0,
        score=0.5, estimator=estimator, progress={},
    )  # fmt: skip
    if exported:
        file = model_export.run(config.train_uri, f"{frames}/model.onnx").file
        config = replace(config, predict=replace(config.predict, checkpoint=file))
    opened = open_model(config)
    plan = plan_predictions(config, opened, "fp32")
    assert plan.settings["predict.checkpoint"] == opened.info.model_sha256[:16]
    network = Network(opened.info, "cpu", 1, "fp32", config.predict)
    describe = Describe(section=config.predict, num_classes=CARD.class_map.num_classes, estimator=estimator)
    rows: list[Row] = []
    for unit in plan.units(range(plan.num_shards)):
        planned = plan.read(unit, rows_around(config.predict))
        loaded = load_frames(planned, classes=CARD.class_map, policy=config.images)
        rows += describe(network(loaded), plan.row_ids(unit)).to_pylist()
    assert [row["row_id"] for row in rows] == list(range(22))
    assert [row["row_id"] for row in rows if row["status"] == "quarantined"] == [16]
    return rows


def mask_of(row: Mapping[str, Any]) -> np.ndarray:
    return np.frombuffer(row["pred_mask"], np.uint8).reshape(row["height"], row["width"])


def same(first: list[Row], second: list[Row], *columns: str) -> bool:
    return [[row[name] for name in columns] for row in first] == [[row[name] for name in columns] for row in second]


def test_columns_are_what_the_mask_says(frames: Path) -> None:
    rows = predict(frames, batch_size=4)
    for row in rows:
        if row["status"] == "ok":
            assert row["components"] == count_components(mask_of(row), 3).tolist()
            assert row["expected_miou"] == ESTIMATOR.estimate(row["class_pixels"], row["confidence_sum"])
            assert row["copied_from"] is None
    assert len({row["expected_miou"] for row in rows}) > 5


def test_what_lasts_is_told_of_frames_of_one_group_that_are_segmented_together(frames: Path) -> None:
    rows = predict(frames, batch_size=5)
    known = [row["row_id"] for row in rows if row["lasting"] is not None]
    assert known == [1, 2, 3, 4, 6, 7, 8, 9, 12, 13, 14, 17, 18, 19, 21]
    for row_id in known:
        before = rows[row_id - 1 if row_id != 17 else 15]  # the broken frame is passed over
        expected = count_lasting(mask_of(rows[row_id]), mask_of(before), 3)
        assert rows[row_id]["lasting"] == expected.ravel().tolist()
        assert sum(rows[row_id]["lasting"]) == SHAPE[0] * SHAPE[1]


def test_a_checkpoint_that_was_not_validated_expects_nothing(frames: Path) -> None:
    assert {row["expected_miou"] for row in predict(frames, estimator=None)} == {None}


@pytest.mark.parametrize("batch_size", range(1, 9))
def test_masks_do_not_depend_on_the_batch_size(frames: Path, batch_size: int) -> None:
    whole = predict(frames, batch_size=22)
    assert same(predict(frames, batch_size=batch_size), whole, "pred_mask", "class_pixels", "entropy_sum")


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_votes_reach_over_the_ends_of_batches_and_shards(frames: Path, batch_size: int) -> None:
    whole = predict(frames, batch_size=22, smooth_frames=2)
    cut = predict(frames, batch_size=batch_size, shard_rows=5, smooth_frames=2)
    apart = [row for row in range(22) if row not in (18, 19)]  # the broken frame makes two of its neighbours poorer
    assert same([cut[row] for row in apart], [whole[row] for row in apart], "pred_mask", "class_pixels")
    assert not same(whole, predict(frames, batch_size=22), "pred_mask")
    assert [row["row_id"] for row in cut if row["lasting"] is None and row["status"] == "ok"] == [0, 11]


def test_votes_make_masks_flicker_less(frames: Path) -> None:
    def changed(rows: list[Row]) -> int:
        return sum(sum(row["lasting"][:3]) for row in rows if row["lasting"] is not None)

    assert changed(predict(frames, batch_size=22, smooth_frames=3)) < changed(predict(frames, batch_size=22))


def test_an_exported_model_sees_what_its_checkpoint_sees(frames: Path) -> None:
    options = {"batch_size": 5, "copy_repeats": True, "smooth_frames": 1, "flips": "horizontal"}
    rows, wanted = predict(frames, exported=True, **options), predict(frames, **options)
    assert same(rows, wanted, "image_id", "status", "copied_from", "channel_sum")
    for one, other in zip(rows, wanted, strict=True):
        if one["status"] == "ok":
            assert (mask_of(one) != mask_of(other)).mean() < 1e-3
            assert one["expected_miou"] == pytest.approx(other["expected_miou"], abs=1e-3)


def test_a_repeat_takes_the_mask_and_says_from_where(frames: Path) -> None:
    rows, plain = predict(frames, batch_size=11, copy_repeats=True), predict(frames, batch_size=11)
    assert {row["row_id"]: row["copied_from"] for row in rows if row["copied_from"] is not None} == {3: 2, 14: 13}
    assert same(rows, plain, "pred_mask", "confidence_sum", "channel_sum", "lasting")
    assert sum(rows[3]["lasting"][:3]) == 0


def test_one_frame_in_three_is_segmented_and_the_others_follow_it(frames: Path) -> None:
    rows, plain = predict(frames, batch_size=11, segment_every=3), predict(frames, batch_size=11)
    own = [row["row_id"] for row in rows if row["copied_from"] is None and row["status"] == "ok"]
    assert own == [0, 3, 6, 9, 11, 14, 18, 21]  # of the frames that can be used
    assert {row["copied_from"] for row in rows} == {None, *own}
    assert same([rows[row] for row in own], [plain[row] for row in own], "pred_mask")
    assert all(
        set(mask_of(row).ravel()) <= set(mask_of(rows[row["copied_from"]]).ravel())
        for row in rows
        if row["copied_from"]
    )
