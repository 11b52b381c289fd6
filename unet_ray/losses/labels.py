"""What the losses need to know of a mask: how often each class occurs, and which classes occur at all.

Shapes: B batch, K classes, H W pixels.
"""

import torch
from torch import Tensor

from unet_ray.schema import IGNORE_INDEX


def sum_by_label(values_BHW: Tensor, mask_BHW: Tensor, num_classes: int) -> Tensor:
    """Return the ``(K,)`` sums of values over the pixels of each class; ignored pixels are in none."""
    sums = values_BHW.new_zeros(IGNORE_INDEX + 1).scatter_add(0, mask_BHW.flatten(), values_BHW.flatten())
    return sums[:num_classes]


def count_labels(mask_BHW: Tensor, num_classes: int) -> Tensor:
    """Return the ``(K,)`` int64 pixels of each class. Unlike ``bincount`` it does not wait for the device."""
    return sum_by_label(torch.ones_like(mask_BHW), mask_BHW, num_classes)


def mean_of_present(losses_K: Tensor, pixels_K: Tensor) -> Tensor:
    """Return the mean loss of the classes that have pixels; 0 where none has any."""
    present_K = pixels_K > 0
    return (losses_K * present_K).sum() / present_K.sum().clamp(min=1)
