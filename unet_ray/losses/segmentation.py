"""The loss of training: the weighted sum of the terms that the configuration asks for.

Shapes: B batch, K classes, H W pixels.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from unet_ray.config_training import LossSection
from unet_ray.losses.lovasz import lovasz_loss
from unet_ray.losses.overlap import dice_loss, jaccard_loss
from unet_ray.losses.pixelwise import cross_entropy, focal_loss
from unet_ray.losses.ranking import keep_hardest


@dataclass(frozen=True, eq=False)
class SegmentationLoss:
    """What a training step minimises; called with its logits and masks.

    ``class_weights_K`` are ``(K,)`` float32 weights of the pixel-wise terms, on the device of the logits.
    """

    section: LossSection
    class_weights_K: Tensor

    def __call__(self, logits_BKHW: Tensor, mask_BHW: Tensor, border_BHW: Tensor | None = None) -> Tensor:
        """Return the loss of a batch, computed in float32.

        Args:
            logits_BKHW: ``(B, K, H, W)`` of any float type.
            mask_BHW: ``(B, H, W)`` int64 class ids, 255 = ignored.
            border_BHW: ``(B, H, W)`` float weights that pixels have on top of their class's, or None.

        Returns:
            A scalar; 0 (with zero gradient) when every pixel is ignored.
        """
        section = self.section
        # Planes, not pixels: a softmax over a handful of adjacent channels is five times slower on a CPU.
        log_probs_BKHW = logits_BKHW.float().contiguous().log_softmax(1)
        hard_BHW = mask_BHW
        if section.ohem_fraction < 1:
            hard_BHW = keep_hardest(log_probs_BKHW, mask_BHW, section.ohem_fraction)
        by_pixel = (log_probs_BKHW, hard_BHW, self.class_weights_K, border_BHW)
        by_class = (log_probs_BKHW, mask_BHW)
        terms = (
            (section.cross_entropy, partial(cross_entropy, *by_pixel, label_smoothing=section.label_smoothing)),
            (section.focal, partial(focal_loss, *by_pixel, gamma=section.focal_gamma)),
            (section.dice, partial(dice_loss, *by_class)),
            (section.jaccard, partial(jaccard_loss, *by_class)),
            (section.lovasz, partial(lovasz_loss, *by_class)),
        )
        return torch.stack([weight * term() for weight, term in terms if weight]).sum()
