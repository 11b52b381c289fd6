"""What the networks are made of: convolution blocks, normalisation, up-sampling.

Shapes: B batch, C channels, H W pixels.
"""

import math

import torch
from torch import Tensor, nn

from unet_ray.config_training import Norm, Upsampling

_MOST_GROUPS = 8


class ConvBlock(nn.Sequential):
    """Twice: 3x3 convolution, normalisation, ReLU. ``(B, in, H, W) -> (B, out, H, W)``; 4 pixels less unpadded."""

    def __init__(self, in_channels: int, out_channels: int, norm: Norm = "batch", padding: int = 1) -> None:
        """Make the block; ``padding`` is 1, or 0 for valid convolutions."""
        bias = norm == "none"
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, padding=padding, bias=bias),
            make_norm(norm, out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=padding, bias=bias),
            make_norm(norm, out_channels),
            nn.ReLU(inplace=True),
        )


class ResidualBlock(nn.Module):
    """A `ConvBlock` whose input is added, through a 1x1 convolution, before the last ReLU.

    ``(B, in, H, W) -> (B, out, H, W)``. After He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition"
    (CVPR 2016, arXiv 1512.03385).
    """

    def __init__(self, in_channels: int, out_channels: int, norm: Norm = "batch") -> None:
        """Make the block."""
        super().__init__()
        self.body = nn.Sequential(*list(ConvBlock(in_channels, out_channels, norm))[:-1])
        self.shortcut = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1, bias=norm == "none"), make_norm(norm, out_channels)
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the map with as many pixels and the block's channels."""
        return torch.relu_(self.body(x_BCHW) + self.shortcut(x_BCHW))


def make_norm(norm: Norm, channels: int) -> nn.Module:
    """Return a normalisation of ``channels`` channels; "none" passes its input on.

    Batch: Ioffe and Szegedy 2015 (arXiv 1502.03167); sync_batch takes its statistics over all workers, on GPUs only.
    Group: Wu and He 2018 (arXiv 1803.08494), 8 groups where the channels can be divided so, else fewer.
    """
    match norm:
        case "batch":
            return nn.BatchNorm2d(channels)
        case "sync_batch":
            return nn.SyncBatchNorm(channels)
        case "group":
            return nn.GroupNorm(math.gcd(_MOST_GROUPS, channels), channels)
        case "none":
            return nn.Identity()


def make_up(in_channels: int, out_channels: int, upsampling: Upsampling) -> nn.Module:
    """Return what doubles height and width: a 2x2 transposed convolution, or a 1x1 convolution and interpolation.

    Interpolation and a 1x1 convolution commute, so the convolution comes first, where it is four times cheaper.
    """
    if upsampling == "transposed":
        return nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2)
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1), nn.Upsample(scale_factor=2, mode="bilinear"))


def initialise(*roots: nn.Module) -> None:
    """Draw the weights of all convolutions for ReLU (He et al. 2015, arXiv 1502.01852) and set their biases to 0."""
    for root in roots:
        for module in root.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


def crop_to(x_BCHW: Tensor, like_BCHW: Tensor) -> Tensor:
    """Return the middle of a map, as high and wide as another; the same map where it is that size already."""
    top, left = ((x_BCHW.shape[axis] - like_BCHW.shape[axis]) // 2 for axis in (2, 3))
    return x_BCHW[:, :, top : top + like_BCHW.shape[2], left : left + like_BCHW.shape[3]]
