"""The U-Net, padded, with batch normalisation.

After Ronneberger, Fischer and Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation" (MICCAI 2015,
arXiv 1505.04597). Departures: 3x3 convolutions are zero-padded, so the output has the input's size and encoder maps
are not cropped; every convolution is followed by batch normalisation (Ioffe and Szegedy 2015, arXiv 1502.03167).

Shapes: B batch, C channels, K classes, H W pixels.
"""

import torch
from torch import Tensor, nn


class ConvBlock(nn.Sequential):
    """Twice: 3x3 convolution, batch normalisation, ReLU. ``(B, in, H, W) -> (B, out, H, W)``."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        """Make the block."""
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


class UNet(nn.Module):
    """Image to logits of the same size; H and W must be multiples of ``2 ** depth`` (`stride`)."""

    def __init__(self, num_classes: int, width: int, depth: int, in_channels: int = 3) -> None:
        """Make the network.

        Args:
            num_classes: Number of output channels, K.
            width: Channels of the first level; level i has ``width * 2 ** i``.
            depth: Number of halvings.
            in_channels: Channels of the image.
        """
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        self.stride = 2**depth
        self.down = nn.ModuleList(
            ConvBlock(before, after) for before, after in zip([in_channels, *widths], widths, strict=False)
        )
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * after, after, 2, stride=2) for after in reversed(widths[:-1]))
        self.merge = nn.ModuleList(ConvBlock(2 * after, after) for after in reversed(widths[:-1]))
        self.head = nn.Conv2d(width, num_classes, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Return ``(B, K, H, W)`` logits of a normalised ``(B, C, H, W)`` float image."""
        skips: list[Tensor] = []
        x = image_BCHW
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else nn.functional.max_pool2d(x, 2))
            skips.append(x)
        skips.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat([skips.pop(), up(x)], dim=1))
        logits_BKHW: Tensor = self.head(x)
        return logits_BKHW
