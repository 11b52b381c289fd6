"""A network drawn as a U: a box for each map, as high as it has pixels and as wide as it has channels (log scales)."""

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, Rectangle

from unet_ray.architecture.trace import Architecture, Shape

_STYLE: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "unet-ray", "font.size": 9}
_UNSIGNED = dict.fromkeys(("Creator", "Date", "Format", "Type"))
_DPI = 200

# Inches.
_TALLEST, _SHRINK, _LOWEST = 2.1, 0.68, 0.3
_ACROSS, _BELOW, _STEP, _BORDER = 0.62, 0.55, 0.4, 0.35
_LEGEND = 1.1
_SPACIOUS = 4  # from so many halvings on there is room for the legend beside the bottom

_INK, _PALE = "#333a45", "#8a93a1"
_FILLS = {"map": "#bcd7f5", "copy": "#ffffff", "doubled": "#fbd9ac", "logits": "#c5e6c8", "image": "#e4e4e4"}
_ARROWS = {"convolve": "#2b6cb0", "halve": "#c53030", "double": "#d97706", "copy": _PALE, "classify": "#2f855a"}


@dataclass(frozen=True)
class _Box:
    """Edges of a drawn map."""

    left: float
    right: float
    bottom: float
    top: float

    @property
    def x(self) -> float:
        return (self.left + self.right) / 2

    @property
    def y(self) -> float:
        return (self.bottom + self.top) / 2


def draw_architecture(architecture: Architecture, title: str, names: Mapping[str, str]) -> tuple[bytes, bytes]:
    """Draw a network; return the drawing as PNG and as SVG, the same bytes for the same network.

    Args:
        architecture: The network.
        title: What stands above it.
        names: What each arrow means: convolve, halve, double, copy, classify.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure()
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        left, right, bottom, top = _draw_levels(axes, architecture)
        axes.text(left, top, title, fontsize=11, va="bottom", color=_INK, linespacing=1.5)
        handles = [Line2D([], [], color=_ARROWS[key], label=name, lw=1.6) for key, name in names.items()]
        axes.legend(handles=handles, loc="lower left", frameon=False, labelcolor=_INK, borderaxespad=1.5)
        top += 0.55
        axes.set_xlim(left - _BORDER, right + _BORDER)
        axes.set_ylim(bottom - _BORDER, top + _BORDER / 2)
        figure.set_size_inches(right - left + 2 * _BORDER, top - bottom + 1.5 * _BORDER)
        png, svg = io.BytesIO(), io.BytesIO()
        figure.savefig(png, format="png", dpi=_DPI, metadata={"Software": None})
        figure.savefig(svg, format="svg", metadata=_UNSIGNED)
    return png.getvalue(), svg.getvalue()


def _draw_levels(axes: Axes, architecture: Architecture) -> tuple[float, float, float, float]:
    """Draw all boxes and arrows from the bottom outwards; return the edges: left, right, bottom, top."""
    maps = {(stage.path, stage.level): stage.output for stage in architecture.stages if stage.output is not None}
    supervised = {stage.level for stage in architecture.stages if stage.output is None}
    deepest = max(level for path, level in maps if path == "down")
    rows = _rows(deepest)
    image = (3, *architecture.input_size)
    lower = upper = _map(axes, 0, rows[deepest], maps["down", deepest], "map")
    _note_size(axes, lower, maps["down", deepest])
    for level in reversed(range(deepest)):
        skip = maps.get(("down", level))
        before = _map(axes, lower.left - _ACROSS, rows[level], skip or image, "map" if skip else "image")
        _note_size(axes, before, skip or image)
        _arrow(axes, "halve", (before.x, before.bottom), (lower.left, lower.y), "angle,angleA=-90,angleB=180")
        joined, after = _expand(axes, upper, rows[level], skip, maps["up", level], maps["merge", level])
        if skip is not None:
            _arrow(axes, "copy", (before.right, before.y), (joined.left, before.y))
        if level in supervised:
            _coarse_logits(axes, after)
        lower, upper = before, after
    if ("down", 0) in maps:
        first = _map(axes, lower.left - _STEP, rows[0], image, "image")
        _note_size(axes, first, image)
        _arrow(axes, "convolve", (first.right, first.y), (lower.left, lower.y))
        lower = first
    logits = _map(axes, upper.right + _STEP, rows[0], maps["head", 0], "logits", to_right=True)
    _note_size(axes, logits, maps["head", 0])
    _arrow(axes, "classify", (upper.right, upper.y), (logits.left, logits.y))
    legend = _LEGEND if deepest < _SPACIOUS else 0
    return lower.left, logits.right, rows[deepest][0] - legend, rows[0][1] + 0.6


def _rows(deepest: int) -> list[tuple[float, float]]:
    """Return the bottom and the top of each level, finest first."""
    rows: list[tuple[float, float]] = []
    top = 0.0
    for level in range(deepest + 1):
        height = max(_LOWEST, _TALLEST * _SHRINK**level)
        rows.append((top - height, top))
        top -= height + _BELOW
    return rows


def _expand(
    axes: Axes, below: _Box, row: tuple[float, float], skip: Shape | None, up: Shape, merged: Shape
) -> tuple[_Box, _Box]:
    """Draw a level of the expanding path: what is copied beside what was doubled, and what comes of both."""
    left = below.right + _ACROSS
    copied = _map(axes, left, row, skip, "copy", to_right=True) if skip is not None else None
    doubled = _map(axes, copied.right if copied else left, row, up, "doubled", to_right=True)
    joined = _Box(left, doubled.right, *row)
    after = _map(axes, joined.right + _STEP, row, merged, "map", to_right=True)
    _note_size(axes, joined, up)
    _note_size(axes, after, merged)
    _arrow(axes, "convolve", (joined.right, joined.y), (after.left, after.y))
    _arrow(axes, "double", (below.right, below.y), (joined.x, joined.bottom), "angle,angleA=0,angleB=90")
    return joined, after


def _coarse_logits(axes: Axes, merged: _Box) -> None:
    """Draw what training alone compares at a coarser level, below its map."""
    top = merged.bottom - 0.24
    axes.add_patch(Rectangle((merged.x - 0.12, top - 0.16), 0.24, 0.16, fc=_FILLS["logits"], ec=_INK, lw=0.8, ls="--"))
    _arrow(axes, "classify", (merged.x, merged.bottom), (merged.x, top))


def _map(axes: Axes, x: float, row: tuple[float, float], shape: Shape, fill: str, *, to_right: bool = False) -> _Box:
    """Draw a map to the left or to the right of x, its channels above it."""
    bottom, top = row
    left = x if to_right else x - _width(shape[0])
    box = _Box(left, left + _width(shape[0]), bottom, top)
    line = "--" if fill == "copy" else "-"
    axes.add_patch(Rectangle((left, bottom), box.right - left, top - bottom, fc=_FILLS[fill], ec=_INK, lw=0.8, ls=line))
    axes.text(box.x, top + 0.18, str(shape[0]), ha="center", va="bottom", color=_INK)
    return box


def _note_size(axes: Axes, box: _Box, shape: Shape) -> None:
    text = f"{shape[1]} \N{MULTIPLICATION SIGN} {shape[2]}"
    axes.text(box.x, box.top + 0.05, text, ha="center", va="bottom", color=_PALE, fontsize=7)


def _width(channels: int) -> float:
    return 0.1 + 0.045 * math.log2(channels + 1)


def _arrow(axes: Axes, kind: str, start: tuple[float, float], end: tuple[float, float], bend: str = "arc3") -> None:
    axes.add_patch(
        FancyArrowPatch(
            start, end, connectionstyle=bend, arrowstyle="-|>", mutation_scale=9, lw=1.4, color=_ARROWS[kind],
            shrinkA=1, shrinkB=1, zorder=3,
        )
    )  # fmt: skip
