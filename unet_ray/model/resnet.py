"""A U-Net whose contracting path is a ResNet of torchvision.

Encoder: He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition" (CVPR 2016, arXiv 1512.03385). It halves
the resolution five times, the first time before it has a map to keep: the last level of the expanding path has none
to merge with.

Shapes: B batch, C channels, H W pixels.
"""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor, nn

from unet_ray.config_training import RESNET_DEPTH, Norm, ResNetKind, Upsampling
from unet_ray.model.blocks import initialise, make_norm
from unet_ray.model.network import SegmentationNetwork
from unet_ray.sizes import padded_sizes

if TYPE_CHECKING:
    from torchvision.models import ResNet


class ResNetUNet(SegmentationNetwork):
    """Image to logits of the same size; H and W must be multiples of 32. The ResNet is ``encoder``."""

    def __init__(
        self,
        num_classes: int,
        width: int,
        kind: ResNetKind,
        *,
        norm: Norm = "batch",
        upsampling: Upsampling = "transposed",
        dropout: float = 0.0,
        deep_supervision: bool = False,
    ) -> None:
        """Make the network, with new weights; torchvision is imported here, which takes seconds.

        Args:
            num_classes: Number of output channels, K.
            width: Channels of the last level of the expanding path; each one before has twice as many.
            kind: Which ResNet.
            norm: Normalisation of encoder and blocks, not none.
            upsampling: How the expanding path doubles the resolution.
            dropout: Share of the bottom map that training sets to 0.
            deep_supervision: Whether training gives logits of every level.
        """
        from torchvision import models

        super().__init__(padded_sizes(RESNET_DEPTH), dropout)
        self.encoder = getattr(models, kind)(weights=None, norm_layer=partial(make_norm, norm))
        self.encoder.fc = nn.Identity()
        bottom = self.encoder.inplanes
        self.add_expanding_path(
            bottom,
            [bottom // 2, bottom // 4, bottom // 8, 64, 0],
            [width * 2**level for level in reversed(range(RESNET_DEPTH))],
            num_classes,
            contracting_reach=_reach(self.encoder),
            norm=norm,
            upsampling=upsampling,
            deep_supervision=deep_supervision,
        )
        initialise(self.up, self.merge, self.head, self.coarse_heads)

    def contracting_path(self) -> Sequence[Sequence[nn.Module]]:
        """Return the stem and the four groups of blocks."""
        net = self.encoder
        return [[net.conv1, net.bn1, net.relu], [net.layer1], [net.layer2], [net.layer3], [net.layer4]]

    def contract(self, image_BCHW: Tensor) -> list[Tensor]:
        """Return the maps of 1/2, 1/4, 1/8, 1/16 and 1/32 of the resolution."""
        net = self.encoder
        stem = net.relu(net.bn1(net.conv1(image_BCHW)))
        maps = [stem, net.layer1(net.maxpool(stem))]
        for layer in (net.layer2, net.layer3, net.layer4):
            maps.append(layer(maps[-1]))
        return maps


def _reach(encoder: "ResNet") -> int:
    """Return a bound on the pixels on each side that a pixel of the last map depends on."""
    stem = 3 + 2  # a 7x7 convolution at full resolution, 3x3 pooling at half
    layers = (encoder.layer1, encoder.layer2, encoder.layer3, encoder.layer4)
    counts = (
        sum(isinstance(one, nn.Conv2d) and one.kernel_size == (3, 3) for one in layer.modules()) for layer in layers
    )
    return stem + sum(count << (level + 2) for level, count in enumerate(counts))
