"""Four frames that any network can learn by heart, and every loss there is."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from unet_ray.config_training import LossSection
from unet_ray.losses.borders import Borders, border_weights
from unet_ray.metrics import count_confusion, score
from unet_ray.schema import IGNORE_INDEX

CLASSES, SIZE = 3, 32
_ALONE = LossSection(cross_entropy=0, dice=1)
LOSSES = {
    "cross_entropy": LossSection(dice=0),
    "smoothed": LossSection(dice=0, label_smoothing=0.1),
    "hard": LossSection(dice=0, ohem_fraction=0.25),
    "border": LossSection(dice=0, border_classes=("disc",)),
    "dice": _ALONE,
    "jaccard": replace(_ALONE, dice=0, jaccard=1),
    "focal": replace(_ALONE, dice=0, focal=1),
    "lovasz": replace(_ALONE, dice=0, lovasz=1),
}


def draw_frames(margin: int = 0) -> tuple[Tensor, Tensor]:
    """Draw noisy frames of a bar and two discs, with a rim that has no label, and mirror them beyond their edges.

    Returns:
        ``(4, 3, SIZE + 2 margin, SIZE + 2 margin)`` float32 and ``(4, SIZE, SIZE)`` int64.
    """
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
    image_BCHW = torch.from_numpy(images.transpose(0, 3, 1, 2))
    return nn.functional.pad(image_BCHW, [margin] * 4, mode="reflect"), torch.from_numpy(masks).long()


def borders_of(section: LossSection, mask_BHW: Tensor) -> Tensor | None:
    """Return ``(4, SIZE, SIZE)`` border weights of the discs where a loss has any."""
    if not section.border_classes:
        return None
    discs = Borders(class_ids=(2,), weight=section.border_weight, sigma=section.border_sigma)
    return torch.from_numpy(np.stack([border_weights(mask, discs) for mask in mask_BHW.numpy().astype(np.uint8)]))


def miou_of(model: nn.Module, image_BCHW: Tensor, mask_BHW: Tensor) -> float:
    """Return the mIoU of a network's answers."""
    with torch.inference_mode():
        answers = model.eval()(image_BCHW).argmax(1).to(torch.uint8).numpy()
    masks = mask_BHW.numpy().astype(np.uint8)
    confusion = sum(count_confusion(mask, answer, CLASSES) for mask, answer in zip(masks, answers, strict=True))
    return score(confusion).miou or 0.0
