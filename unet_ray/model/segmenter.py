"""From frames to masks with a trained network: the one path that validation and prediction share.

Shapes: B batch, C channels, K classes, H W pixels.
"""

import copy
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from unet_ray.config import Arithmetic, Precision
from unet_ray.model.network import SegmentationNetwork

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def resolve_precision(precision: Precision, device: torch.device) -> Arithmetic:
    """Return the arithmetic to use: ``auto`` is bf16 where the hardware multiplies it natively."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if torch.cpu.get_capabilities().get("avx512_bf16", False) else "fp32"


class Segmenter:
    """A frozen copy of a network, ready for inference: batch norm folded, channels last, in one precision.

    Lives in a prediction actor or, during validation, in a train worker. The masks depend on which frames share
    a call (reduced precision is not associative), so callers cut batches by plan.
    """

    def __init__(
        self,
        model: SegmentationNetwork,
        mean: Sequence[float],
        std: Sequence[float],
        device: torch.device,
        precision: Arithmetic,
    ) -> None:
        """Copy the network; ``mean`` and ``std`` are of R, G, B in 0..255."""
        self._device = device
        self._dtype = _DTYPES[precision]
        self._sizes = model.sizes
        self._model = _fold_batch_norm(model).to(device, self._dtype).to(memory_format=torch.channels_last)
        self._mean = torch.tensor(mean, device=device, dtype=self._dtype).view(1, 3, 1, 1)
        self._scale = (1 / torch.tensor(std, device=device)).to(self._dtype).view(1, 3, 1, 1)

    def segment(self, images: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
        """Return a ``(H, W)`` uint8 mask of class ids for each ``(H, W, 3)`` uint8 RGB image, of any size.

        Images of one size share a forward pass. Sizes that the network cannot take are padded on the right and at
        the bottom with the mean colour, and the masks cropped back. For a network of valid convolutions images are
        mirrored instead, on all sides, so that its output is the whole of them.
        """
        same_size: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for position, image in enumerate(images):
            same_size[image.shape].append(position)
        masks: dict[int, NDArray[np.uint8]] = {}
        for positions in same_size.values():
            batch_BHW = self._forward(np.stack([images[position] for position in positions]))
            masks.update(zip(positions, batch_BHW, strict=True))
        return [masks[position] for position in range(len(images))]

    @torch.inference_mode()
    def _forward(self, batch_BHWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
        height, width = batch_BHWC.shape[1:3]
        bottom, right = self._sizes.at_least(height) - height, self._sizes.at_least(width) - width
        margin = self._sizes.margin
        if margin:
            around = ((0, 0), (margin, margin + bottom), (margin, margin + right), (0, 0))
            batch_BHWC = np.pad(batch_BHWC, around, mode="reflect")
        image_BCHW = torch.from_numpy(batch_BHWC).to(self._device, non_blocking=True).permute(0, 3, 1, 2)
        image_BCHW = (image_BCHW - self._mean).mul_(self._scale)
        if not margin and (bottom or right):
            image_BCHW = nn.functional.pad(image_BCHW, (0, right, 0, bottom))
        logits_BKHW: Tensor = self._model(image_BCHW)
        ids_BHW = logits_BKHW[:, :, :height, :width].argmax(1).to(torch.uint8)
        return np.asarray(ids_BHW.cpu().numpy())


def _fold_batch_norm(model: SegmentationNetwork) -> nn.Module:
    """Return an evaluation copy whose convolutions carry the affine maps of the batch norms that follow them.

    Our blocks and torchvision's alike name a norm right after its convolution.
    """
    folded = copy.deepcopy(model).eval()
    for parent in folded.modules():
        for (conv_name, conv), (norm_name, norm) in pairwise(list(parent.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d | nn.SyncBatchNorm):
                setattr(parent, conv_name, fuse_conv_bn_eval(conv, norm))
                setattr(parent, norm_name, nn.Identity())
    return folded
