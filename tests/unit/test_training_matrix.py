"""Networks with every loss in every precision take steps; small ones learn by heart in every precision.

Float16 is slow on a CPU, above all in a ResNet, whose one loss in it stands for all. To a loss all ResNets are alike;
those that are not here learn in test_models.
"""

import itertools

import pytest
import torch

from tests.unit.four_frames import CLASSES, LOSSES, borders_of, draw_frames, miou_of
from unet_ray.config import Arithmetic
from unet_ray.config_training import LossSection, ModelSection, OptimSection
from unet_ray.losses.segmentation import SegmentationLoss
from unet_ray.model.build import build_model
from unet_ray.model.outputs import compared, subsample
from unet_ray.train.stepper import Stepper

pytestmark = pytest.mark.usefixtures("one_thread")

PRECISIONS: tuple[Arithmetic, ...] = ("fp32", "bf16", "fp16")
MODELS = {
    "unet": ModelSection(width=8, depth=2),
    "group": ModelSection(width=8, depth=2, norm="group"),
    "rich": ModelSection(width=8, depth=2, upsampling="bilinear", residual=True, deep_supervision=True, dropout=0.1),
    "valid": ModelSection(kind="unet_valid", width=8, depth=2),
    "resnet18": ModelSection(kind="resnet18", width=4),
}
SMALL = ("unet", "group", "rich")
RATE = 3e-3
STEPS = 100


def teach(
    model: ModelSection, loss: LossSection, precision: Arithmetic, steps: int, frames: int = 4
) -> tuple[int, float]:
    """Train on some of the four frames; return how many steps were taken, and the mIoU at the end."""
    torch.manual_seed(0)
    network = build_model(model, CLASSES).to(memory_format=torch.channels_last)
    image_BCHW, mask_BHW = (drawn[:frames] for drawn in draw_frames(model.sizes.margin))
    border_BHW = borders_of(loss, mask_BHW)
    criterion = SegmentationLoss(loss, torch.ones(CLASSES))
    stepper = Stepper(network, network, OptimSection(kind="adam", weight_decay=0), precision, torch.device("cpu"))
    taken = 0
    for _ in range(steps):
        stepper.begin()
        parts = [
            weight * criterion(logits, target, None if border_BHW is None else subsample(border_BHW, logits))
            for logits, target, weight in compared(stepper.outputs(image_BCHW), mask_BHW)
        ]
        stepper.backward(torch.stack(parts).sum(), 1.0)
        stepper.step(RATE)
        taken += stepper.settle()
    return taken, miou_of(network, image_BCHW, mask_BHW)


STEPPING = [
    (model, loss, precision)
    for model, loss, precision in itertools.product(MODELS, LOSSES, PRECISIONS)
    if (model, precision) != ("resnet18", "fp16") or loss == "cross_entropy"
]


@pytest.mark.parametrize(("model", "loss", "precision"), STEPPING)
def test_a_network_takes_a_step_with_every_loss_in_every_precision(
    model: str, loss: str, precision: Arithmetic
) -> None:
    few = 8 if precision == "fp16" else 1  # until the scale of the loss fits
    taken, _ = teach(MODELS[model], LOSSES[loss], precision, few, frames=2)
    assert taken


COMBINATIONS = [
    (model, precision, loss)
    for (model, precision), loss in zip(itertools.product(SMALL, PRECISIONS), itertools.cycle(LOSSES), strict=False)
]


@pytest.mark.parametrize(("model", "precision", "loss"), COMBINATIONS)
def test_a_network_learns_four_frames_by_heart_in_every_precision(model: str, precision: Arithmetic, loss: str) -> None:
    _, miou = teach(MODELS[model], LOSSES[loss], precision, STEPS)
    assert miou > 0.95
