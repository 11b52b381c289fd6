"""Street scenes drawn on demand: video frames and their pixel-exact masks, as a pure function.

A sequence is a street laid out once from its own random numbers; a frame is that street seen from a car that
has driven on. The street is painted flat, then given its surfaces, and last photographed.
"""

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from unet_ray.datasets.synthetic_paint import (
    ASPHALT,
    BRICK,
    FAR,
    FITTING,
    FOLIAGE,
    NEAR,
    PLASTER,
    SLABS,
    View,
    add_street,
)
from unet_ray.datasets.synthetic_scene import Scene, lay_out
from unet_ray.errors import ConfigError

CLASSES: tuple[str, ...] = ("sky", "building", "road", "pavement", "tree", "pole", "car", "pedestrian")
PALETTE: tuple[tuple[int, int, int], ...] = (
    (112, 168, 224), (128, 0, 0), (128, 64, 128), (0, 0, 192),
    (128, 128, 0), (192, 192, 128), (64, 0, 128), (240, 96, 32),
)  # fmt: skip
CLASS_OF_MATERIAL = np.array([0, 1, 1, 1, 2, 3, 4, 5, 6, 7], np.uint8)

MIN_HEIGHT, MIN_WIDTH = 48, 64
TILE_SIDE, TILE_PER_METRE = 256, 32

Plane = NDArray[np.float32]


def render_frame(
    seed: int, sequence: int, frame: int, height: int, width: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw one frame of a street video and the mask that says what each of its pixels shows.

    ``(seed, sequence)`` fixes the street, its light and its camera; ``frame`` drives on through it, and the
    same arguments give the same bytes in any process.

    Returns:
        The RGB image, uint8 of shape (height, width, 3), and the mask, uint8 of shape (height, width), whose
        every pixel is a position in ``CLASSES``.

    Raises:
        ConfigError: the frame is smaller than 48x64, or ``seed``, ``sequence`` or ``frame`` is negative.

    """
    if height < MIN_HEIGHT or width < MIN_WIDTH:
        raise ConfigError(
            f"a synthetic frame is at least {MIN_HEIGHT} high and {MIN_WIDTH} wide, but height {height} and "
            f"width {width} were asked for: ask for a larger frame, and resize it if it must be smaller"
        )
    for name, value in (("seed", seed), ("sequence", sequence), ("frame", frame)):
        if value < 0:
            raise ConfigError(f"{name} of a synthetic frame counts from 0, but is {value}: give 0 or more")
    scene = lay_out(seed, sequence)
    view = View.of(scene, frame, height, width)
    add_street(view, frame)
    canvas = _sky(view, frame, height, width)
    view.paint(canvas)
    rng = np.random.default_rng((seed, sequence, frame))
    return _photograph(scene, _surface(view, canvas), rng), CLASS_OF_MATERIAL[canvas[..., 3]]


def _sky(view: View, frame: int, height: int, width: int) -> NDArray[np.uint8]:
    """Return a canvas of sky: a gradient down to the horizon, and clouds that drift on a plane overhead."""
    light, rows = view.scene.light, int(view.horizon) + 2
    zenith, low_sky, tint = np.asarray((light.zenith, light.low_sky, light.tint), np.float32)
    up = np.maximum(-_angles(rows, view.horizon, view.focal), 0)[:, None]
    depth = 26 / (up + 0.12)
    drift = 40 * view.scene.bend_phase + 0.1 * frame
    clouds = _sample(_clouds(), _angles(width, view.centre, view.focal) * depth + drift, depth + drift)
    cover = np.clip((clouds - 1 + light.clouds) * 4, 0, 0.85)[..., None]
    clear = low_sky + (zenith - low_sky) * np.minimum(up * 2.2, 1)[..., None] ** 0.7
    cloudy = np.minimum((low_sky + 255 * tint) / 2, 255)
    canvas = np.zeros((height, width, 4), np.uint8)
    canvas[:rows, :, :3] = clear + (cloudy - clear) * cover
    return canvas


def _surface(view: View, canvas: NDArray[np.uint8]) -> Plane:
    """Give walls bricks, roads grain and pavements slabs, all fixed in the street, then shadows and haze.

    Each pixel's distance follows from what it shows: the ground, or else the row of facades on its side.
    """
    scene, light, material = view.scene, view.scene.light, canvas[..., 3]
    height, width = material.shape
    down = _angles(height, view.horizon, view.focal)[:, None]
    aside = _angles(width, view.centre, view.focal)
    is_wall = (material == BRICK) | (material == PLASTER) | (material == FITTING)
    is_ground = (material == ASPHALT) | (material == SLABS)
    is_upright = is_wall | (material == FOLIAGE)
    z = np.where(is_upright, _facade_distance(view, aside), scene.eye[1] / np.maximum(down, 1e-4))
    z = z.clip(NEAR, FAR).astype(np.float32)
    across = np.where(is_upright, -down, aside) * z
    patterns = _sample(_patterns(), across * TILE_PER_METRE, (z + view.travelled) * TILE_PER_METRE)
    gain = np.zeros_like(z)
    for shown, k, contrast in (
        (BRICK, 0, 1),
        (PLASTER, 1, 1),
        (ASPHALT, 2, 1),
        (SLABS, 3, 1),
        (FOLIAGE, 1, 4),
    ):
        np.multiply(patterns[..., k], contrast, out=gain, where=material == shown)
    gain = 1 + gain * np.minimum(view.focal / 30 / z, 1)
    np.multiply(gain, view.shade(height, width) / np.float32(255), out=gain, where=is_ground)
    clear = np.where(is_wall | is_ground, np.exp(-light.haze * z), 1)[..., None]
    haze = np.asarray(light.low_sky, np.float32) * (1 - clear)
    return np.asarray(canvas[..., :3] * (gain[..., None] * clear) + haze, np.float32)


def _facade_distance(view: View, aside: Plane) -> Plane:
    """Return where each column of pixels meets the facades: bend * z**2 - aside * z + offset = 0."""
    left, right = (side * view.scene.road.facades[side] - view.scene.eye[0] for side in (-1, 1))
    offset = np.where(aside < 0, left, right)
    root = np.sqrt(np.maximum(aside**2 - 4 * view.bend * offset, 0))
    return np.asarray(2 * offset / (aside + np.copysign(root + 1e-4, offset)), np.float32)


def _photograph(scene: Scene, image: Plane, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Take the picture: exposure, vignette, a soft lens and a noisy sensor."""
    height, width = image.shape[:2]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)
    exposed = image * (scene.exposure * (1 - 0.09 * (x * x + y * y)))[..., None]
    soft = cv2.GaussianBlur(exposed, (0, 0), scene.blur * max(1.0, width / 900))
    noise = rng.standard_normal((height, width, 1), dtype=np.float32) * np.float32(scene.grain)
    return np.clip(soft + noise, 0, 255).astype(np.uint8)


def _angles(count: int, middle: float, focal: float) -> Plane:
    """Return the slope of the ray through each row or column of pixels."""
    return (np.arange(count, dtype=np.float32) - np.float32(middle)) / np.float32(focal)


def _sample(tile: Plane, x: NDArray[np.floating], y: NDArray[np.floating]) -> Plane:
    """Read a tile, repeated without end, at these places."""
    columns, rows = np.broadcast_arrays(
        x - TILE_SIDE * np.floor(x / TILE_SIDE), y - TILE_SIDE * np.floor(y / TILE_SIDE)
    )
    sampled = cv2.remap(
        tile,
        columns.astype(np.float32),
        rows.astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_WRAP,
    )
    return np.asarray(sampled, np.float32)


@lru_cache(maxsize=1)
def _clouds() -> Plane:
    """Return a square that repeats in both directions, 0 (clear) to 1 (thick)."""
    return np.asarray(np.clip(0.5 + 0.22 * _noise(1.7, 0), 0, 1), np.float32)


@lru_cache(maxsize=1)
def _patterns() -> Plane:
    """Return bricks, plaster, asphalt and slabs, relative brightness around 0, in one square that repeats."""
    y, x = np.mgrid[:TILE_SIDE, :TILE_SIDE]
    course = x // 8
    shifted = (y + 8 * (course % 2)) % TILE_SIDE
    shades = np.random.default_rng(1).normal(0, 0.07, (TILE_SIDE // 16, TILE_SIDE // 8))
    bricks = shades[shifted // 16, course] + 0.05 * _noise(1.0, 2)
    slabs = 0.05 * _noise(0.8, 6) + 0.03 * _noise(0.2, 7)
    planes = (
        np.where((x % 8 < 2) | (shifted % 16 < 2), 0.12, bricks),
        0.05 * _noise(1.0, 3),
        0.05 * _noise(1.0, 4) + 0.09 * _noise(0.1, 5),
        np.where((x % 32 < 2) | (y % 32 < 2), -0.22, slabs),
    )
    return np.stack(planes, axis=-1).astype(np.float32)


def _noise(smoothness: float, seed: int) -> Plane:
    """Return noise that repeats, of unit variance: 0 is white, 2 is cloudy."""
    white = np.random.default_rng(seed).standard_normal((TILE_SIDE, TILE_SIDE))
    frequency = np.fft.fftfreq(TILE_SIDE, 1 / TILE_SIDE)
    damping = (1 + np.hypot(frequency[:, None], frequency)) ** smoothness
    noise = np.fft.ifft2(np.fft.fft2(white) / damping).real
    return np.asarray((noise - noise.mean()) / noise.std(), np.float32)
