"""What all networks share: sizes, and the expanding path from maps to logits.

Shapes: B batch, C channels, K classes, H W pixels.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from unet_ray.config_training import Norm, Upsampling
from unet_ray.model.blocks import ConvBlock, ResidualBlock, crop_to, make_up
from unet_ray.sizes import Sizes


class SegmentationNetwork(nn.Module, ABC):
    """A contracting path, which the subclass has, then up-sampling and merging with its maps, level by level.

    ``sizes`` tells which images it takes: an output of h x w pixels, both among the output sizes, is of an image with
    ``sizes.margin`` pixels more on each side. ``reach`` is how many pixels around an output pixel, beside the margin,
    its logits may depend on; None for all, as with group normalisation.
    """

    reach: int | None

    def __init__(self, sizes: Sizes, dropout: float) -> None:
        """Make the parts without weights; ``dropout`` is the share of the bottom map that training sets to 0."""
        super().__init__()
        self.sizes = sizes
        self.dropout = nn.Dropout(dropout)

    def add_expanding_path(
        self,
        bottom: int,
        skips: Sequence[int],
        widths: Sequence[int],
        num_classes: int,
        *,
        contracting_reach: int,
        norm: Norm,
        upsampling: Upsampling,
        padding: int = 1,
        residual: bool = False,
        deep_supervision: bool = False,
    ) -> None:
        """Make the levels of the expanding path, coarsest first, and the head.

        Args:
            bottom: Channels of the coarsest map.
            skips: Channels of the map that each level is merged with, 0 for none.
            widths: Channels of each level.
            num_classes: Number of output channels, K.
            contracting_reach: Pixels on each side that a pixel of the coarsest map depends on.
            norm: Normalisation of the blocks.
            upsampling: How the resolution is doubled.
            padding: Padding of the 3x3 convolutions.
            residual: Whether blocks are residual.
            deep_supervision: Whether training gives logits of every level.
        """
        per_level = 3 if upsampling == "transposed" else 5  # two convolutions, the place in a coarser pixel, its sides
        padded_reach = contracting_reach + per_level * (self.sizes.stride - 1)
        self.reach = None if norm == "group" else padded_reach if padding else 0
        make_block = partial(ResidualBlock, norm=norm) if residual else partial(ConvBlock, norm=norm, padding=padding)
        self.up = nn.ModuleList(
            make_up(before, after, upsampling) for before, after in zip([bottom, *widths], widths, strict=False)
        )
        self.merge = nn.ModuleList(make_block(skip + after, after) for skip, after in zip(skips, widths, strict=True))
        self.head = nn.Conv2d(widths[-1], num_classes, 1)
        self.coarse_heads = nn.ModuleList(
            nn.Conv2d(width, num_classes, 1) for width in (widths[:-1] if deep_supervision else [])
        )

    @abstractmethod
    def contracting_path(self) -> Sequence[Sequence[nn.Module]]:
        """Return the modules of each level of the contracting path, finest first, the bottom included."""

    @abstractmethod
    def contract(self, image_BCHW: Tensor) -> list[Tensor]:
        """Return the map of each level of the contracting path, finest first; the last one is the bottom's."""

    def forward(self, image_BCHW: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return ``(B, K, h, w)`` logits of a normalised ``(B, C, h + 2 margin, w + 2 margin)`` float image.

        In training mode a network with deep supervision returns a tuple: the logits, then those of the coarser
        levels, each half as high and wide as the one before (Lee et al., "Deeply-Supervised Nets", AISTATS 2015, arXiv
        1409.5185).
        """
        maps = self.contract(image_BCHW)
        x = self.dropout(maps.pop())
        coarse_BKHW: list[Tensor] = []
        for level, (up, merge) in enumerate(zip(self.up, self.merge, strict=True)):
            x = up(x)
            x = merge(torch.cat([crop_to(maps.pop(), x), x], dim=1) if maps else x)
            if self.training and level < len(self.coarse_heads):
                coarse_BKHW.append(self.coarse_heads[level](x))
        logits_BKHW: Tensor = self.head(x)
        return (logits_BKHW, *reversed(coarse_BKHW)) if coarse_BKHW else logits_BKHW
