"""Where the pixels of a crop come from: one map from crop to source, drawn from a key and not yet applied."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from unet_ray.augment.keys import Rngs, roll
from unet_ray.config_training import AugmentSection

GRID = 3
"""Nodes of the elastic grid along each axis."""

_FAR_PX = 2.0**15  # OpenCV mirrors an image step by step: seconds, for what lies near a horizon


@dataclass(frozen=True, kw_only=True)
class Warp:
    """A map from crop to source pixels ``(x, y)``, between pixel centres.

    A place in the crop is first moved by ``shifts`` and then mapped by ``matrix``. The crop may have a margin, which
    the network sees and the mask does not cover; its places have negative coordinates.

    Attributes:
        matrix: ``(3, 3)`` float64, homogeneous; the last row of an affine map is exactly 0, 0, 1.
        shifts: ``(3, 3, 2)`` float64: px along x and y, of the nodes (down, across) that span crop and margin; None
            without elastic deformation.
        crop: Height and width of the crop, without its margin.
        margin: px around the crop.
    """

    matrix: NDArray[np.float64]
    shifts: NDArray[np.float64] | None
    crop: tuple[int, int]
    margin: int

    @property
    def is_affine(self) -> bool:
        """Whether ``matrix`` keeps parallels."""
        return bool(self.matrix[2].tolist() == [0, 0, 1])


def sample_warp(
    section: AugmentSection,
    rng: np.random.Generator,
    rngs: Rngs,
    source: tuple[int, int],
    crop: tuple[int, int],
    margin: int = 0,
    focus: tuple[int, int] | None = None,
) -> Warp:
    """Draw zoom, flips, position and all that bends, as one map.

    Args:
        section: Ranges and probabilities.
        rng: Random numbers of zoom, flips and position.
        rngs: Random numbers of the other options.
        source: Height and width of the pair.
        crop: Height and width of the crop.
        margin: px around the crop that the image has and the mask has not.
        focus: A source pixel ``(x, y)`` that some pixel of the crop shows exactly; None leaves that to chance.
    """
    matrix = sample_affine(section, rng, source, crop, focus)
    if section.rotate or section.translate or section.shear or section.perspective:
        matrix = matrix @ sample_distortion(section, rngs("distort"), crop, margin)
    elastic = roll(rngs, "elastic", section.elastic)
    shifts = None if elastic is None else elastic.normal(0, section.elastic_sigma, (GRID, GRID, 2))
    warp = Warp(matrix=matrix, shifts=shifts, crop=crop, margin=margin)
    return warp if focus is None else _hold(warp, focus)


def sample_affine(
    section: AugmentSection,
    rng: np.random.Generator,
    source: tuple[int, int],
    crop: tuple[int, int],
    focus: tuple[int, int] | None = None,
) -> NDArray[np.float64]:
    """Draw a zoom, flips and a position as one map from crop to source pixels.

    Args:
        section: Ranges and probabilities.
        rng: Random numbers of the pair.
        source: Height and width of the pair.
        crop: Height and width of the crop; where it is larger than the zoomed pair, the pair lies in it at random.
        focus: A source pixel ``(x, y)`` that the crop covers; None leaves that to chance.

    Returns:
        ``(3, 3)`` float64, homogeneous, from crop to source pixels ``(x, y)``, between pixel centres.
    """
    low, high = section.scale
    zoom = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    affine = np.eye(3)
    for axis, flip in ((0, section.hflip), (1, section.vflip)):
        size, window = source[1 - axis], crop[1 - axis]
        slack = size * zoom - window
        first, last = min(0.0, slack), max(0.0, slack)
        if focus is not None:
            middle = (focus[axis] + 0.5) * zoom
            first, last = max(first, middle - window), min(last, middle)
        start = rng.uniform(first, last)
        sign = -1 if rng.random() < flip else 1
        affine[axis, axis] = sign / zoom
        affine[axis, 2] = (start + 0.5) / zoom - 0.5
        if sign < 0:
            affine[axis, 2] = (start + window - 0.5) / zoom - 0.5
    return affine


def sample_distortion(
    section: AugmentSection, rng: np.random.Generator, crop: tuple[int, int], margin: int = 0
) -> NDArray[np.float64]:
    """Draw perspective, shear, rotation and shift of a crop about its centre, in this order.

    The corners that perspective moves are those of the crop with its margin.

    Returns:
        ``(3, 3)`` float64, homogeneous, from crop to crop pixels ``(x, y)``. Every number is drawn, whatever is on.
    """
    size = np.array(crop[::-1], np.float64)
    angle, lean = np.radians(rng.uniform(-1, 1, 2) * (section.rotate, section.shear))
    shift = rng.uniform(-1, 1, 2) * section.translate * size
    moves = rng.uniform(-1, 1, (4, 2)) * section.perspective * (size + 2 * margin)
    cos, sin = np.cos(angle), np.sin(angle)
    turned = np.array([[cos, -sin, shift[0]], [sin, cos, shift[1]], [0, 0, 1]])
    sheared = np.array([[1, np.tan(lean), 0], [0, 1, 0], [0, 0, 1]])
    centre = (size - 1) / 2
    matrix = moved(centre) @ turned @ sheared
    if section.perspective:
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (size / 2 + margin)
        ends = corners + moves
        matrix = matrix @ cv2.getPerspectiveTransform(corners.astype(np.float32), ends.astype(np.float32))
    return np.asarray(matrix @ moved(-centre))


def locate(warp: Warp, rows: slice = slice(None), columns: slice = slice(None)) -> NDArray[np.float32]:
    """Return the source x and y of the pixels of a crop with its margin: ``(2, H, W)`` float32.

    The elastic grid is that of the U-Net paper (Ronneberger et al. 2015, section 3.1): displacements drawn at the
    nodes of a 3 x 3 grid, and bicubic interpolation between them. The interpolation reproduces straight lines, so it
    is the mapped nodes that are interpolated, in homogeneous coordinates, and no pixel is mapped by itself.

    Args:
        warp: The map.
        rows: Rows wanted, counted from the top of the margin.
        columns: Columns wanted, counted from its left.
    """
    height, width = (size + 2 * warp.margin for size in warp.crop)
    y, x = (np.linspace(0, size - 1, GRID) - warp.margin for size in (height, width))
    nodes = np.ones((GRID, GRID, 3))
    nodes[..., 0], nodes[..., 1] = x[None, :], y[:, None]
    if warp.shifts is not None:
        nodes[..., :2] += warp.shifts
    nodes = nodes @ warp.matrix.T
    down, across = _cubic_weights(height)[rows], _cubic_weights(width)[columns]
    channels = 2 if warp.is_affine else 3
    strips = np.einsum("ijc,wj->ciw", nodes[..., :channels], across).astype(np.float32)
    places = np.einsum("hi,ciw->chw", down.astype(np.float32), strips)
    return np.asarray(places if warp.is_affine else (places[:2] / places[2]).clip(-_FAR_PX, _FAR_PX))


@lru_cache(maxsize=8)
def _cubic_weights(size: int) -> NDArray[np.float64]:
    """Return what each of three nodes, the first pixel, the middle and the last, counts at each pixel: ``(size, 3)``.

    Cubic convolution with a = -1/2 (Keys 1981), but beyond the outer nodes all goes on straight.
    """
    nodes = np.arange(-1, GRID + 1)
    distance = np.abs(np.linspace(0, GRID - 1, size)[:, None] - nodes)
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    weights = np.where(distance <= 1, near, np.where(distance < 2, far, 0))
    inner = weights[:, 1:-1].copy()
    inner[:, 0] += 2 * weights[:, 0]
    inner[:, 1] -= weights[:, 0] + weights[:, -1]
    inner[:, -1] += 2 * weights[:, -1]
    return inner


def _hold(warp: Warp, focus: tuple[int, int]) -> Warp:
    """Shift the source under the crop so that the crop's pixel nearest to ``focus`` shows it exactly."""
    x, y, weight = np.linalg.solve(warp.matrix, (*focus, 1.0))
    column, row = (
        warp.margin + round(min(max(place / weight, 0), size - 1))
        for place, size in ((x, warp.crop[1]), (y, warp.crop[0]))
    )
    shown = locate(warp, slice(row, row + 1), slice(column, column + 1))[:, 0, 0]
    return replace(warp, matrix=moved(np.subtract(focus, shown)) @ warp.matrix)


def moved(by: Sequence[float] | NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the ``(3, 3)`` homogeneous matrix of a shift along x and y."""
    return np.array([[1, 0, by[0]], [0, 1, by[1]], [0, 0, 1]], np.float64)
