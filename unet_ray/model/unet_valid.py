"""The U-Net as it was published, with valid convolutions.

Ronneberger, Fischer and Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation" (MICCAI 2015, arXiv
1505.04597): unpadded 3x3 convolutions with ReLU and no normalisation, 2x2 max pooling, 2x2 up-convolutions, maps of
the contracting path cropped to their middle, dropout at its end, a 1x1 convolution: 23 convolutions at depth 4. No
logit depends on what lies outside the image, so tiles put together are exactly the whole. Ours to choose are the
number of channels in and out, width, depth, and a normalisation.

Shapes: B batch, C channels, H W pixels.
"""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from unet_ray.config_training import Norm
from unet_ray.model.blocks import ConvBlock
from unet_ray.model.network import SegmentationNetwork
from unet_ray.model.unet import contract
from unet_ray.sizes import unpadded_sizes


class ValidUNet(SegmentationNetwork):
    """Image to logits of its middle, smaller by `Sizes.margin` pixels on each side: 572 x 572 to 388 x 388."""

    def __init__(
        self,
        num_classes: int,
        width: int,
        depth: int,
        in_channels: int = 3,
        *,
        norm: Norm = "none",
        dropout: float = 0.0,
    ) -> None:
        """Make the network.

        Args:
            num_classes: Number of output channels, K.
            width: Channels of the first level, 64 in the paper; level i has ``width * 2 ** i``.
            depth: Number of halvings, 4 in the paper.
            in_channels: Channels of the image.
            norm: Normalisation behind each 3x3 convolution.
            dropout: Share of the bottom map that training sets to 0.
        """
        super().__init__(unpadded_sizes(depth), dropout)
        widths = [width * 2**level for level in range(depth + 1)]
        self.down = nn.ModuleList(
            ConvBlock(before, after, norm, padding=0)
            for before, after in zip([in_channels, *widths], widths, strict=False)
        )
        *skips, bottom = widths
        self.add_expanding_path(
            bottom,
            skips[::-1],
            skips[::-1],
            num_classes,
            contracting_reach=0,
            norm=norm,
            upsampling="transposed",
            padding=0,
        )
        _initialise(self)

    def contracting_path(self) -> Sequence[Sequence[nn.Module]]:
        """Return the block of each level."""
        return [[block] for block in self.down]

    def contract(self, image_BCHW: Tensor) -> list[Tensor]:
        """Return the map of each level; 572 pixels give 568, 280, 136, 64 and 28."""
        return contract(self.down, image_BCHW)


def _initialise(model: nn.Module) -> None:
    """Draw weights with a standard deviation of ``sqrt(2 / N)``, N the inputs of a neuron (section 3 of the paper)."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            inputs = module.in_channels * math.prod(module.kernel_size) // math.prod(module.stride)
            nn.init.normal_(module.weight, std=math.sqrt(2 / inputs))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
