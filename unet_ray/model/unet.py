"""The U-Net, padded, with batch normalisation.

After Ronneberger, Fischer and Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation" (MICCAI 2015,
arXiv 1505.04597). Departures: 3x3 convolutions are zero-padded, so the output has the input's size and encoder maps
are not cropped; every convolution is followed by a normalisation. `unet_valid` has the original.

Shapes: B batch, C channels, H W pixels.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from unet_ray.config_training import Norm, Upsampling
from unet_ray.model.blocks import ConvBlock, ResidualBlock, initialise
from unet_ray.model.network import SegmentationNetwork
from unet_ray.sizes import padded_sizes


class UNet(SegmentationNetwork):
    """Image to logits of the same size; H and W must be multiples of ``2 ** depth``."""

    def __init__(
        self,
        num_classes: int,
        width: int,
        depth: int,
        in_channels: int = 3,
        *,
        norm: Norm = "batch",
        upsampling: Upsampling = "transposed",
        dropout: float = 0.0,
        residual: bool = False,
        deep_supervision: bool = False,
    ) -> None:
        """Make the network.

        Args:
            num_classes: Number of output channels, K.
            width: Channels of the first level; level i has ``width * 2 ** i``.
            depth: Number of halvings.
            in_channels: Channels of the image.
            norm: Normalisation behind each 3x3 convolution.
            upsampling: How the expanding path doubles the resolution.
            dropout: Share of the bottom map that training sets to 0.
            residual: Whether blocks are residual.
            deep_supervision: Whether training gives logits of every level.
        """
        super().__init__(padded_sizes(depth), dropout)
        widths = [width * 2**level for level in range(depth + 1)]
        block = ResidualBlock if residual else ConvBlock
        self.down = nn.ModuleList(
            block(before, after, norm) for before, after in zip([in_channels, *widths], widths, strict=False)
        )
        *skips, bottom = widths
        self.add_expanding_path(
            bottom,
            skips[::-1],
            skips[::-1],
            num_classes,
            contracting_reach=2 * (2 ** (depth + 1) - 1),
            norm=norm,
            upsampling=upsampling,
            residual=residual,
            deep_supervision=deep_supervision,
        )
        initialise(self)

    def contracting_path(self) -> Sequence[Sequence[nn.Module]]:
        """Return the block of each level."""
        return [[block] for block in self.down]

    def contract(self, image_BCHW: Tensor) -> list[Tensor]:
        """Return the map of level i with ``width * 2 ** i`` channels and ``H / 2 ** i`` x ``W / 2 ** i`` pixels."""
        return contract(self.down, image_BCHW)


def contract(blocks: nn.ModuleList, x_BCHW: Tensor) -> list[Tensor]:
    """Return the outputs of blocks that stand one below the other, with 2x2 max pooling between them."""
    maps: list[Tensor] = []
    for block in blocks:
        maps.append(block(nn.functional.max_pool2d(maps[-1], 2) if maps else x_BCHW))
    return maps
