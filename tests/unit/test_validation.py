"""What a validation counts, and what of it a checkpoint carries to prediction."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from tests.unit.tiny_run import NUM_EVAL, draw, make_config, make_job, run
from tests.unit.tiny_training import CARD
from unet_ray.checkpoint import resume_checkpoint
from unet_ray.datasets.frames import FRAMES
from unet_ray.metrics import count_confusion, score
from unet_ray.model.segmenter import Segmenter
from unet_ray.quality import confident_miou, count_frame
from unet_ray.train.validation import Validation

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")


def make_segmenter() -> Segmenter:
    torch.manual_seed(0)
    return Segmenter(CARD.build(), CARD.mean, CARD.std, CPU, "fp32", measured=True)


def test_frames_are_counted_one_by_one_and_a_frame_that_did_not_load_is_left_out() -> None:
    frames = [draw(number) for number in range(3)]
    frames[1][1][:] = 255  # not a pixel with a label
    cells = [
        {"height": 8, "width": 12, "image": image.tobytes(), "true_mask": mask.tobytes()} for image, mask in frames
    ]
    rows = pa.Table.from_pylist([*cells, {"error_code": "truncated"}], schema=FRAMES)
    counted, segmenter = Validation.empty(3), make_segmenter()
    counted.add(segmenter, rows)
    confusion_KK, quality = np.zeros((3, 3), np.int64), np.zeros(6, np.int64)
    for (_, truth), found in zip(frames, segmenter.segment([image for image, _ in frames]), strict=True):
        assert found.confidence is not None
        of_frame = count_confusion(truth, found.mask, 3)
        confusion_KK += of_frame
        pixels = [int((found.mask == class_id).sum()) for class_id in range(3)]
        sums = [int(found.confidence[found.mask == class_id].sum()) for class_id in range(3)]
        if (miou := score(of_frame).miou) is not None:
            quality += count_frame(confident_miou(pixels, sums), miou)
    np.testing.assert_array_equal(counted.confusion_KK, confusion_KK)
    np.testing.assert_array_equal(counted.quality, quality)
    assert counted.quality[0] == 2


def test_nothing_counted_tells_nothing() -> None:
    assert Validation.empty(3).estimator() is None
    assert Validation.empty(3).reference(CARD) is None


def test_a_checkpoint_carries_what_its_validation_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unet_ray.quality._FEWEST_FRAMES", NUM_EVAL)
    job = make_job(make_config(tmp_path))
    run(job)
    checkpoint = resume_checkpoint(job.config.train_uri)
    assert checkpoint is not None
    assert checkpoint.estimator is not None
    assert checkpoint.estimator.frames == NUM_EVAL
    assert 0 <= checkpoint.estimator.error < 1
    assert checkpoint.reference is not None
    assert checkpoint.reference.sample.frames == NUM_EVAL


def test_too_few_frames_leave_a_checkpoint_without_it(tmp_path: Path) -> None:
    job = make_job(make_config(tmp_path))
    run(job)
    checkpoint = resume_checkpoint(job.config.train_uri)
    assert checkpoint is not None
    assert checkpoint.estimator is None
