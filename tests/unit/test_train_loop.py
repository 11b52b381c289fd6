from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from unet_ray.augment.colour import normalise_colour, sample_colour
from unet_ray.augment.keys import make_rng
from unet_ray.config import Config
from unet_ray.config_training import AugmentSection, OptimSection
from unet_ray.model.unet import UNet
from unet_ray.train.feed import CROPS
from unet_ray.train.loop import is_exhausted, load_batch, make_optimizer, summarise

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")


def history(*scores: float | None) -> list[dict[str, Any]]:
    return [
        {
            "epoch": epoch,
            "train_loss": 1 / epoch if epoch else None,
            "miou": miou,
            "object_miou": None if miou is None else miou / 2,
            "pixel_accuracy": None if miou is None else miou * 2,
            "skipped_steps": epoch,
            "seconds": 1.25,
        }
        for epoch, miou in enumerate(scores)
    ]


@pytest.mark.parametrize(
    ("scores", "patience", "exhausted"),
    [
        ([0.1, 0.2, 0.2], None, False),
        ([0.3], 1, False),
        ([0.3, 0.2], 1, True),
        ([0.3, 0.3], 1, True),
        ([0.3, 0.4], 1, False),
        ([0.3, 0.2, 0.2], 2, True),
        ([0.3, 0.2, 0.31], 2, False),
        ([0.1, 0.3, 0.2], 2, False),
        ([0.3, 0.2, 0.25, 0.28], 2, True),
        ([0.3, None, None, None], 1, False),
        ([0.3, None, 0.2, None], 1, True),
        ([None, None], 1, False),
        ([], 1, False),
    ],
)
def test_training_stops_after_as_many_validations_without_progress_as_asked(
    scores: list[float | None], patience: int | None, exhausted: bool
) -> None:
    assert is_exhausted(history(*scores), patience) is exhausted


def test_the_summary_is_of_the_best_validation_the_last_loss_and_all_skipped_steps() -> None:
    assert summarise(history(0.1, None, 0.4, 0.2)) == {
        "epochs": 3,
        "train_loss": 1 / 3,
        "best_epoch": 2,
        "miou": 0.4,
        "object_miou": 0.2,
        "pixel_accuracy": 0.8,
        "skipped_steps": 6,
        "train_seconds": 5.0,
    }


def test_of_equal_validations_the_last_is_the_best_as_with_checkpoints() -> None:
    assert summarise(history(0.1, 0.4, 0.4, 0.3))["best_epoch"] == 2


def test_a_run_that_was_never_validated_has_no_best() -> None:
    summary = summarise(history(None, None))
    assert (summary["epochs"], summary["train_loss"]) == (1, 1.0)
    assert {summary[key] for key in ("best_epoch", "miou", "object_miou", "pixel_accuracy")} == {None}


def test_a_batch_on_the_device_is_the_crops_with_their_colour_maps_applied() -> None:
    rng = np.random.default_rng(0)
    crop, mean, std = (4, 6), np.array([100, 110, 120], np.float32), np.array([50, 60, 70], np.float32)
    images = rng.integers(256, size=(3, *crop, 3), dtype=np.uint8)
    masks = rng.integers(256, size=(3, *crop), dtype=np.uint8)
    colours = [sample_colour(AugmentSection(), make_rng(0, 1, str(number))) for number in range(3)]
    maps = [normalise_colour(colour, mean, std) for colour in colours]
    rows = pa.Table.from_pylist(
        [
            {"image": image.tobytes(), "mask": mask.tobytes(), "colour": colour.tobytes()}
            for image, mask, colour in zip(images, masks, maps, strict=True)
        ],
        schema=CROPS,
    )
    image_BCHW, mask_BHW = load_batch(rows, crop, CPU)
    assert (image_BCHW.shape, image_BCHW.dtype) == ((3, 3, 4, 6), torch.float32)
    assert image_BCHW.is_contiguous(memory_format=torch.channels_last)
    assert mask_BHW.dtype == torch.int64
    np.testing.assert_array_equal(mask_BHW.numpy(), masks)
    for image, colour, found_CHW in zip(images, colours, image_BCHW.numpy(), strict=True):
        changed = image.astype(np.float64) @ colour[:, :3].T.astype(np.float64) + colour[:, 3]
        np.testing.assert_allclose(found_CHW.transpose(1, 2, 0), (changed - mean) / std, atol=1e-4)


def test_images_with_a_margin_are_larger_than_their_masks() -> None:
    image = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    cells = {"image": image.tobytes(), "mask": bytes(range(8)), "colour": np.eye(3, 4, dtype=np.float32).tobytes()}
    image_BCHW, mask_BHW = load_batch(pa.Table.from_pylist([cells], schema=CROPS), (2, 4), CPU, margin=2)
    np.testing.assert_array_equal(image_BCHW[0].permute(1, 2, 0).numpy(), image)
    assert mask_BHW.tolist() == [[[0, 1, 2, 3], [4, 5, 6, 7]]]


def test_a_batch_can_be_cut_from_a_longer_table() -> None:
    crop = (2, 2)
    cells = [
        {
            "image": bytes([10 * number] * 12),
            "mask": bytes([number] * 4),
            "colour": np.eye(3, 4, dtype=np.float32).tobytes(),
        }
        for number in range(5)
    ]
    image_BCHW, mask_BHW = load_batch(pa.Table.from_pylist(cells, schema=CROPS).slice(2, 2), crop, CPU)
    assert image_BCHW[:, 0, 0, 0].tolist() == [20, 30]
    assert mask_BHW[:, 0, 0].tolist() == [2, 3]


def test_only_convolution_weights_decay() -> None:
    model = UNet(num_classes=2, width=2, depth=1)
    optimizer = make_optimizer(model, Config(optim=OptimSection(weight_decay=0.25, lr=0.5)))
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    found = {name: decays[id(parameter)] for name, parameter in model.named_parameters()}
    assert len(decays) == len(found)
    for name, parameter in model.named_parameters():
        assert found[name] == (0.25 if parameter.ndim == 4 else 0), name
    assert all(group["lr"] == 0.5 and group["fused"] for group in optimizer.param_groups)
