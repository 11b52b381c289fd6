from dataclasses import replace

import numpy as np
import pytest
import torch

from unet_ray.config_training import LossSection
from unet_ray.losses.borders import Borders, border_weights
from unet_ray.losses.segmentation import SegmentationLoss
from unet_ray.metrics import count_confusion, score
from unet_ray.model.unet import UNet
from unet_ray.schema import IGNORE_INDEX

pytestmark = pytest.mark.usefixtures("one_thread")

CLASSES, SIZE, STEPS = 3, 32, 50
ALONE = LossSection(cross_entropy=0, dice=1)
SECTIONS = {
    "cross_entropy": LossSection(dice=0),
    "smoothed": LossSection(dice=0, label_smoothing=0.1),
    "hard": LossSection(dice=0, ohem_fraction=0.25),
    "border": LossSection(dice=0, border_classes=("disc",)),
    "dice": ALONE,
    "jaccard": replace(ALONE, dice=0, jaccard=1),
    "focal": replace(ALONE, dice=0, focal=1),
    "lovasz": replace(ALONE, dice=0, lovasz=1),
}


def draw_frames() -> tuple[np.ndarray, np.ndarray]:
    """Draw four noisy frames of a bar and two discs, with a rim that has no label."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIZE, :SIZE]
    masks = np.zeros((4, SIZE, SIZE), np.uint8)
    for number, mask in enumerate(masks):
        mask[:, 3 + 2 * number : 8 + 2 * number] = 1
        mask[np.hypot(y - 9 - number, x - 24) < 6] = 2
        mask[np.hypot(y - 23, x - 20 - number) < 5] = 2
    colours = np.array([[-1, 0, 1], [1, 1, -1], [0, -1, 0]], np.float32)
    images = colours[masks] + rng.normal(0, 0.3, (*masks.shape, 3)).astype(np.float32)
    masks[:, :2] = IGNORE_INDEX
    return images.transpose(0, 3, 1, 2), masks


@pytest.mark.parametrize("section", SECTIONS.values(), ids=SECTIONS)
def test_each_loss_alone_teaches_four_frames(section: LossSection) -> None:
    torch.manual_seed(0)
    images, masks = draw_frames()
    image_BCHW, mask_BHW = torch.from_numpy(images), torch.from_numpy(masks).long()
    cells = Borders(class_ids=(2,), weight=section.border_weight, sigma=section.border_sigma)
    maps = torch.from_numpy(np.stack([border_weights(mask, cells) for mask in masks]))
    border_BHW = maps if section.border_classes else None
    model = UNet(CLASSES, width=8, depth=2)
    loss = SegmentationLoss(section, torch.ones(CLASSES))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss(model(image_BCHW), mask_BHW, border_BHW).backward()
        optimizer.step()
    with torch.inference_mode():
        answers = model.eval()(image_BCHW).argmax(1).to(torch.uint8).numpy()
    confusion = sum(count_confusion(mask, answer, CLASSES) for mask, answer in zip(masks, answers, strict=True))
    assert (score(confusion).miou or 0) > 0.95
