"""The contact sheet as a picture: pairs down, epochs across, each crop alone and under its mask."""

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from unet_ray.config_input import Colour
from unet_ray.images.paint import paint
from unet_ray.schema import IGNORE_INDEX

_OPACITY = 0.55
_STRIPES = 24  # over the shorter side
_TILE_INCHES = 2.6
_LEGEND = 10  # names in a line
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.03,
    "figure.constrained_layout.w_pad": 0.03,
    "hatch.linewidth": 3,
}


class Tile(NamedTuple):
    """A picture and its mask: ``(H, W, 3)`` uint8 RGB and ``(H, W)`` uint8 ids."""

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]


class Strip(NamedTuple):
    """A pair as it is, and its crops of epochs 1, 2, ..., as many in each strip of a sheet."""

    image_id: str
    original: Tile
    crops: Sequence[Tile]


def draw_sheet(strips: Sequence[Strip], title: str, classes: Sequence[str], palette: Sequence[Colour]) -> bytes:
    """Draw the contact sheet as a PNG.

    Each strip takes two lines, the pictures and under them the same with their masks laid over (`overlay`). The first
    column is the pair itself. Names and colours of the classes stand below.
    """
    columns, lines = 1 + len(strips[0].crops), 2 * len(strips)
    height, width = strips[0].crops[0].mask.shape
    size = columns * _TILE_INCHES, lines * (_TILE_INCHES * height / width + 0.12) + 1
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=size, dpi=110)
        figure.suptitle(title, fontweight="bold")
        grid = figure.subplots(lines, columns, squeeze=False)
        for strip, above, below in zip(strips, grid[::2], grid[1::2], strict=True):
            above[0].set_title(_short(strip.image_id), loc="left")
            for epoch, axes in enumerate(above[1:], 1):
                axes.set_title(f"epoch {epoch}", loc="left")
            for tile, plain, masked in zip((strip.original, *strip.crops), above, below, strict=True):
                _show(plain, tile.image)
                _show(masked, overlay(tile, palette))
        figure.legend(handles=_legend(classes, palette), loc="outside lower center", ncols=_LEGEND, frameon=False)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def overlay(tile: Tile, palette: Sequence[Colour]) -> NDArray[np.uint8]:
    """Lay the colours of a mask over its image; ignored pixels get black and white stripes, which no class has."""
    height, width = tile.mask.shape
    rows, columns = np.ogrid[:height, :width]
    wide = max(1, min(height, width) // _STRIPES)
    laid = paint(tile.mask, palette).astype(np.float64)
    ignored = tile.mask == IGNORE_INDEX
    laid[ignored] = (255 * ((rows + columns) // wide % 2))[ignored][:, None]
    return np.rint(_OPACITY * laid + (1 - _OPACITY) * tile.image).astype(np.uint8)


def _show(axes: Axes, picture: NDArray[np.uint8]) -> None:
    axes.imshow(picture)
    axes.set_axis_off()


def _short(name: str) -> str:
    """Return the end of a long name, which tells more than its beginning."""
    return name if len(name) <= 40 else f"...{name[-37:]}"


def _legend(classes: Sequence[str], palette: Sequence[Colour]) -> list[Patch]:
    named = [
        Patch(facecolor=(red / 255, green / 255, blue / 255), edgecolor="black", label=name)
        for name, (red, green, blue) in zip(classes, palette, strict=True)
    ]
    return [*named, Patch(facecolor="white", edgecolor="black", hatch="//", label="ignored")]
