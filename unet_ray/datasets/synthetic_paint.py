"""Paint a synthetic street far to near, image and mask at once.

The canvas has four channels, red, green, blue and material: every stroke colours a pixel and labels it, so
image and mask cannot disagree. Shadows go to a canvas of their own, because a road in shadow is still road.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from unet_ray.datasets.synthetic_scene import (
    LOOP,
    Building,
    Car,
    Colour,
    Floats,
    Pedestrian,
    Placed,
    Pole,
    Scene,
    Tree,
)

SKY, BRICK, PLASTER, FITTING, ASPHALT, SLABS, FOLIAGE, METAL, CARWORK, PERSON = range(10)

NEAR, FAR = 0.8, 110.0
SUBPIXEL_BITS = 4
GLASS: Colour = (50, 60, 72)
SKY_GLASS: Colour = (124, 144, 164)
SHOP_GLASS: Colour = (112, 124, 130)
SHINING: Colour = (400, 320, 190)
DARK: Colour = (28, 28, 31)
WHITE: Colour = (226, 226, 216)
BARK: Colour = (84, 66, 52)
SIGNALS: tuple[Colour, ...] = ((60, 230, 110), (70, 60, 30), (80, 30, 30))

# Outlines from the rear bumper over the roof to the front one: (length, height) as shares of the car's own.
CAR_OUTLINES = {
    "hatchback": ((0, 0.1), (0, 0.6), (0.03, 0.7), (0.16, 1), (0.58, 1), (0.76, 0.7), (1, 0.54), (1, 0.1)),
    "saloon": ((0, 0.1), (0, 0.62), (0.16, 0.7), (0.3, 1), (0.58, 1), (0.76, 0.7), (1, 0.54), (1, 0.1)),
    "van": ((0, 0.1), (0, 0.5), (0.01, 0.55), (0.04, 1), (0.74, 1), (0.88, 0.6), (1, 0.48), (1, 0.1)),
}
PANEL_BRIGHTNESS = (0.82, 0.92, 0.9, 1.2, 0.9, 1.1, 0.85)  # of the panels between those points
GLAZED_PANELS = (2, 4)
CAR_HALF_WIDTH = 0.9
CIRCLE = np.stack([np.cos(np.arange(12) * np.pi / 6), np.sin(np.arange(12) * np.pi / 6)], axis=1)


@dataclass(frozen=True)
class View:
    """A pinhole camera in the street, and what is to be painted before it.

    ``focal``, ``centre`` and ``horizon`` are pixels. At distance z the road has bent ``bend`` * z**2 metres
    to the right. A stroke is (points, colour, material, z), a shadow (points, grey level).
    """

    scene: Scene
    travelled: float
    bend: float
    focal: float
    centre: float
    horizon: float
    strokes: list[tuple[Floats, Colour, int, float]] = field(default_factory=list)
    shadows: list[tuple[Floats, float]] = field(default_factory=list)

    @classmethod
    def of(cls, scene: Scene, frame: int, height: int, width: int) -> "View":
        """Put the camera where it is at ``frame``."""
        travelled = scene.pace * frame
        return cls(
            scene=scene,
            travelled=travelled,
            bend=scene.bend * math.sin(scene.bend_phase + travelled / 40),
            focal=max(0.75 * width, height),
            centre=width / 2,
            horizon=height * (scene.horizon + 0.002 * math.sin(0.9 * frame)),
        )

    def pixels(self, metres: float, z: float) -> float:
        """Return how many pixels a length covers at distance ``z``."""
        return metres * self.focal / max(z, NEAR)

    def fill(self, points: Floats, colour: Colour, material: int, z: float = 0.0) -> None:
        """Add a polygon (corners, 3), or many that do not overlap (..., corners, 3), as hazy as at ``z``."""
        self.strokes.append((points, colour, material, z))

    def panel(self, x0: float, x1: float, y0: float, y1: float, z: float, colour: Colour, material: int) -> None:
        """Add a rectangle that faces the camera."""
        self.fill(_front(x0, x1, y0, y1, z), colour, material, z)

    def disc(self, x: float, y: float, z: float, radius: float, colour: Colour, material: int) -> None:
        """Add a disc that faces the camera."""
        self.fill(_facing(CIRCLE * radius, x, y, z), colour, material, z)

    def cast(self, points: Floats, light: float) -> None:
        """Add a shadow that lets ``light`` (0 to 1) through on the ground polygon (corners, 3)."""
        self.shadows.append((points, 255 * light))

    def paint(self, canvas: NDArray[np.uint8]) -> None:
        """Paint the strokes in order on red, green, blue and material, uint8 of shape (height, width, 4)."""
        points, colours, materials, z = zip(*self.strokes, strict=True)
        light = self.scene.light
        clear = np.exp(-light.haze * np.array(z))[:, None]
        lit = np.minimum(np.array(colours) * light.tint, 255)
        inks = np.column_stack([lit * clear + (1 - clear) * light.low_sky, materials])
        self._draw(canvas, points, inks.tolist())

    def shade(self, height: int, width: int) -> NDArray[np.uint8]:
        """Return the light on the ground, uint8 of shape (height, width), 255 out of all shadows."""
        canvas = np.full((height, width), 255, np.uint8)
        self._draw(canvas, [points for points, _ in self.shadows], [(grey,) for _, grey in self.shadows])
        return np.asarray(cv2.GaussianBlur(canvas, (0, 0), height / 160), np.uint8)

    def _draw(self, canvas: NDArray[np.uint8], shapes: Sequence[Floats], inks: Iterable[Sequence[float]]) -> None:
        x, y, z = np.concatenate([points.reshape(-1, 3) for points in shapes]).T
        z = np.maximum(z, NEAR)  # exact for whatever runs along the street, and out of sight for the rest
        right, up = self.scene.eye
        u = self.centre + (x - right + self.bend * z * z) * self.focal / z
        v = self.horizon + (up - y) * self.focal / z
        pixels = np.rint(np.stack([u, v], axis=1) * (1 << SUBPIXEL_BITS)).astype(np.int32)
        start = 0
        for points, ink in zip(shapes, inks, strict=True):
            stop = start + points.size // 3
            polygons = pixels[start:stop].reshape(-1, points.shape[-2], 2)
            cv2.fillPoly(canvas, list(polygons), ink, cv2.LINE_8, SUBPIXEL_BITS)
            start = stop


def add_street(view: View, frame: int) -> None:
    """Add the ground, then everything that stands on it, far to near."""
    _add_ground(view)
    _add_skyline(view)
    placed = [(item.distance(view.travelled, frame), item) for item in view.scene.items]
    for z, item in sorted(placed, key=lambda pair: -_painting_depth(*pair)):
        match item:
            case Building():
                _add_building(view, item, z)
            case Tree():
                _add_tree(view, item, z)
            case Pole():
                _add_pole(view, item, z)
            case Car():
                _add_car(view, item, z)
            case Pedestrian():
                _add_pedestrian(view, item, z, frame)


def _painting_depth(z: float, item: Placed) -> float:
    # A facade is behind whatever stands before it in the street, so its far end counts.
    return z + item.length if isinstance(item, Building) else z


def _add_ground(view: View) -> None:
    scene, road = view.scene, view.scene.road
    left, right = -road.kerbs[-1], road.kerbs[1]
    view.fill(_ribbon(-FAR, FAR), scene.paving, SLABS)
    view.fill(_ribbon(left, right), scene.asphalt, ASPHALT)
    for kerb, outwards in ((left, -0.3), (right, 0.3)):
        view.fill(_ribbon(kerb, kerb + outwards), _dim(scene.paving, 1.15), SLABS)
        view.cast(_ribbon(kerb, kerb - outwards), 0.85)
    bays = left + 2.2 if road.drive_side > 0 else right - 2.2
    view.fill(_ribbon(bays - 0.06, bays + 0.06), WHITE, ASPHALT)
    x, z, wide, long = scene.patches.T
    z = (z - view.travelled) % LOOP - 4
    view.fill(_flat(x, x + wide, z, z + long), _dim(scene.asphalt, 0.86), ASPHALT)
    dashes = np.arange(16) * 5.0 - view.travelled % 5
    view.fill(_flat(-0.08, 0.08, dashes, dashes + 2.6), WHITE, ASPHALT)
    stripes = np.arange(left + 0.5, right - 0.8, 1.0)
    crossing = (40 - view.travelled) % LOOP - 4
    view.fill(_flat(stripes, stripes + 0.5, crossing, crossing + 3), WHITE, ASPHALT)


def _add_skyline(view: View) -> None:
    tops = np.repeat(view.scene.skyline, 2)
    edges = np.repeat(np.linspace(-FAR, FAR, len(tops) // 2 + 1), 2)
    outline = np.stack([edges, np.concatenate([[0], tops, [0]])], axis=1)
    view.fill(_facing(outline, 0, 0, FAR), (120, 120, 130), PLASTER)


def _add_building(view: View, item: Building, z: float) -> None:
    light, side, x, far, top = view.scene.light, item.side, item.x, z + item.length, item.height
    in_sun = side != view.scene.sun_side
    brightness = 1.08 if in_sun else 0.86
    trim = _dim(item.trim, brightness)
    if not in_sun:
        view.cast(_flat(x, x - side * 0.55 * top, z, far), light.shadow)
    if item.pitched:
        ridge, peak = x + side * 5, top + 3
        slope = _corners((x, top, z), (x, top, far), (ridge, peak, far), (ridge, peak, z))
        view.fill(slope, _dim(item.roof, brightness), PLASTER)
    if z > NEAR:
        _add_flank(view, item, z)
    view.fill(_wall(x, z, far, 0, top), _dim(item.wall, brightness), BRICK if item.brick else PLASTER)
    view.fill(_wall(x, z, far, top - 0.4, top), trim, FITTING)
    if view.pixels(1, far) < 2.5:
        return
    columns = int(item.length / 2.4)
    pitch = item.length / columns
    bays = z + pitch * (np.arange(columns) + 0.5)
    floors = 4.2 + 3.1 * np.arange(item.storeys - 1)[:, None]
    lit = item.lit[1:, np.arange(columns) % item.lit.shape[1]]
    panes = _wall(x, bays - 0.65, bays + 0.65, floors + 0.8, floors + 2.45)
    uppers = _wall(x, bays - 0.65, bays + 0.65, floors + 1.7, floors + 2.45)
    view.fill(_wall(x, bays - 0.8, bays + 0.8, floors + 0.6, floors + 2.6), trim, FITTING)
    view.fill(panes[~lit], GLASS, FITTING)
    view.fill(uppers[~lit], SKY_GLASS, FITTING)
    view.fill(panes[lit], SHINING, FITTING)
    view.fill(_wall(x, z, far, 3.1, 3.9), _dim(item.shop, brightness), FITTING)
    view.fill(_wall(x, bays - 0.42 * pitch, bays + 0.42 * pitch, 0.5, 2.9), SHOP_GLASS, FITTING)


def _add_flank(view: View, item: Building, z: float) -> None:
    side, top = item.side, item.height
    peak = top + 3 if item.pitched else top
    outline = np.array([(0, 0), (0, top), (side * 5, peak), (side * 10, top), (side * 10, 0)])
    view.fill(_facing(outline, item.x, 0, z), _dim(item.wall, 0.74), BRICK if item.brick else PLASTER)
    if view.pixels(1, z) > 3:
        x = item.x + side * np.arange(1.4, 9, 2.8)
        floors = 5.0 + 3.1 * np.arange(item.storeys - 1)[:, None]
        view.fill(_front(x, x + side * 1.2, floors, floors + 1.6, z), GLASS, FITTING)


def _add_tree(view: View, item: Tree, z: float) -> None:
    size = view.pixels(item.radius, z)
    if z < NEAR or size < 5:
        return
    x, middle, sun = item.x, item.height - item.radius, view.scene.sun_side
    ring = CIRCLE * item.radius
    view.cast(_corners(*((x - 1.2 * sun + right, 0, z + ahead) for right, ahead in ring)), view.scene.light.shadow)
    view.panel(x - 0.17, x + 0.17, 0, middle, z, BARK, FOLIAGE)
    view.panel(x + 0.03, x + 0.17, 0, middle, z, _dim(BARK, 0.7), FOLIAGE)
    clumps = item.clumps[: max(20, int(1.6 * size))]
    shine = item.shine + 0.14 * sun * item.clumps[:, 0, 0] / item.radius
    for outline, brightness in zip(_facing(clumps, x, middle, z), shine.tolist(), strict=False):
        view.fill(outline, _dim(item.leaf, brightness), FOLIAGE, z)


def _add_pole(view: View, item: Pole, z: float) -> None:
    x, top, half, steel = item.x, item.height, item.width / 2, item.steel
    if z < NEAR or view.pixels(item.width, z) < 1.5:
        return
    view.cast(_flat(x, x - 3 * view.scene.sun_side, z - half, z + half), view.scene.light.shadow)
    view.panel(x - half, x + half, 0, top, z, steel, METAL)
    view.panel(x - half, x - 0.2 * half, 0, top, z, _dim(steel, 1.35), METAL)
    view.panel(x - 1.7 * half, x + 1.7 * half, 0, 0.8, z, _dim(steel, 0.85), METAL)
    match item.kind:
        case "lamp":
            tip = x - 1.9 * item.side
            view.panel(x, tip, top - 0.2, top, z, steel, METAL)
            view.panel(tip, tip + 0.9 * item.side, top - 0.34, top, z, WHITE, METAL)
        case "signal":
            view.panel(x - 0.36, x + 0.36, top - 1.4, top + 0.1, z, steel, METAL)
            view.panel(x - 0.22, x + 0.22, top - 1.3, top, z, DARK, METAL)
            for k, colour in enumerate(SIGNALS):
                view.disc(x, top - 1.1 + 0.42 * k, z, 0.16, colour, METAL)
        case "sign":
            view.disc(x, top - 0.2, z, 0.46, WHITE, METAL)
            view.disc(x, top - 0.2, z, 0.40, (30, 84, 170), METAL)
            view.panel(x - 0.24, x + 0.24, top - 0.27, top - 0.13, z, WHITE, METAL)


def _add_car(view: View, item: Car, z: float) -> None:
    x, half, far = item.x, CAR_HALF_WIDTH, z + item.length
    if far < NEAR or view.pixels(half, z) < 3:
        return
    view.cast(_flat(x - half - 0.1, x + half + 0.1, z - 0.3, far + 0.2), 0.35)
    share, tall = np.array(CAR_OUTLINES[item.body]).T
    along = far - share * item.length if item.oncoming else z + share * item.length
    reach = np.where(tall > 0.7, 0.78 * half, half)
    left, right = (np.stack([x + side * reach, tall * item.height, along], axis=1) for side in (-1, 1))
    for side in (-1, 1):
        view.panel(x + side * half, x + side * 0.62, 0, 0.3, z + 0.1, DARK, CARWORK)
    panels = np.stack([left[:-1], left[1:], right[1:], right[:-1]], axis=1)
    far_to_near = range(len(panels)) if item.oncoming else reversed(range(len(panels)))
    for k in far_to_near:
        view.fill(panels[k], _dim(item.paint, PANEL_BRIGHTNESS[k]), CARWORK, z)
        if k in GLAZED_PANELS:
            view.fill(_shrink(panels[k], 0.86), GLASS, CARWORK, z)
    eye = view.scene.eye[0] - view.bend * ((z + far) / 2) ** 2
    if x - half > eye:
        _add_car_side(view, item, left, z)
    elif x + half < eye:
        _add_car_side(view, item, right, z)
    if z > NEAR and view.pixels(half, z) > 5:
        _add_car_end(view, item, z)


def _add_car_side(view: View, item: Car, face: Floats, z: float) -> None:
    x = face[0, 0]
    in_sun = (x > item.x) == (view.scene.sun_side > 0)
    view.fill(face, _dim(item.paint, 1.02 if in_sun else 0.78), CARWORK, z)
    if view.pixels(1, z) < 6:
        return
    view.fill(_shrink(face[2:6], 0.80), GLASS, CARWORK, z)
    for wheel in (z + 0.19 * item.length, z + 0.81 * item.length):
        for radius, colour in ((0.33, DARK), (0.18, (150, 152, 156))):
            rim = _corners(*((x, 0.33 + radius * up, wheel + radius * ahead) for up, ahead in CIRCLE))
            view.fill(rim, colour, CARWORK, z)


def _add_car_end(view: View, item: Car, z: float) -> None:
    x, tall = item.x, item.height
    lamp: Colour = (300, 295, 250) if item.oncoming else (226, 30, 28)
    level = 0.40 if item.oncoming else 0.46
    view.panel(x - 0.88, x + 0.88, 0.13 * tall, 0.22 * tall, z, DARK, CARWORK)
    view.panel(x - 0.27, x + 0.27, 0.28 * tall, 0.36 * tall, z, WHITE, CARWORK)
    for side in (-1, 1):
        view.panel(x + side * 0.85, x + side * 0.5, level * tall, (level + 0.1) * tall, z, lamp, CARWORK)


def _add_pedestrian(view: View, item: Pedestrian, z: float, frame: int) -> None:
    x, tall = item.x, item.height
    if view.pixels(tall, z) < 9:
        return

    def limb(top: tuple[float, float], end: tuple[float, float], half: float, colour: Colour) -> None:
        (x0, y0), (x1, y1) = top, end
        corners = np.array([(x0 - half, y0), (x0 + half, y0), (x1 + half, y1), (x1 - half, y1)])
        view.fill(_facing(corners * tall, x, 0, z), colour, PERSON, z)

    view.cast(_flat(x - 0.35, x + 0.35, z - 0.25, z + 0.25), max(0.5, view.scene.light.shadow))
    swing = math.sin(item.stride + 0.55 * frame)
    for side in (-1, 1):
        foot = side * (0.05 + 0.07 * swing)
        limb((side * 0.055, 0.5), (foot, 0.03), 0.056, _dim(item.trousers, 1 + 0.12 * side))
        limb((foot, 0.04), (foot, 0), 0.065, DARK)
        limb((side * 0.145, 0.82), (side * (0.175 - 0.04 * swing), 0.46), 0.04, _dim(item.top, 0.8))
    limb((0, 0.84), (0, 0.44), 0.13, item.top)
    limb((0.06, 0.84), (0.06, 0.44), 0.06, _dim(item.top, 0.88))
    limb((0, 0.88), (0, 0.82), 0.035, item.skin)
    view.disc(x, 0.925 * tall, z, 0.078 * tall, item.hair, PERSON)
    view.disc(x, 0.905 * tall, z, 0.058 * tall, item.skin, PERSON)


def _dim(colour: Colour, factor: float) -> Colour:
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


def _shrink(points: Floats, factor: float) -> Floats:
    middle: Floats = points.mean(axis=0)
    return middle + (points - middle) * factor


def _facing(outline: Floats, x: float, y: float, z: float) -> Floats:
    """Stand an outline (..., 2), metres right and up of (x, y), before the camera at distance ``z``."""
    points = np.empty((*outline.shape[:-1], 3))
    points[..., 0] = outline[..., 0] + x
    points[..., 1] = outline[..., 1] + y
    points[..., 2] = z
    return points


def _front(x0: ArrayLike, x1: ArrayLike, y0: ArrayLike, y1: ArrayLike, z: ArrayLike) -> Floats:
    return _corners((x0, y0, z), (x0, y1, z), (x1, y1, z), (x1, y0, z))


def _wall(x: ArrayLike, z0: ArrayLike, z1: ArrayLike, y0: ArrayLike, y1: ArrayLike) -> Floats:
    return _corners((x, y0, z0), (x, y1, z0), (x, y1, z1), (x, y0, z1))


def _flat(x0: ArrayLike, x1: ArrayLike, z0: ArrayLike, z1: ArrayLike) -> Floats:
    return _corners((x0, 0, z0), (x0, 0, z1), (x1, 0, z1), (x1, 0, z0))


def _corners(*corners: tuple[ArrayLike, ArrayLike, ArrayLike]) -> Floats:
    """Return the polygon with these corners, (corners, 3), or if they are arrays, many (..., corners, 3)."""
    first, opposite = corners[0], corners[2]
    points = np.empty((*np.broadcast(*first, *opposite).shape, len(corners), 3))
    for k, corner in enumerate(corners):
        for axis, value in enumerate(corner):
            points[..., k, axis] = value
    return points


def _ribbon(x0: float, x1: float) -> Floats:
    """Return the strip of ground between two lines along the street, to its far end."""
    z = np.geomspace(NEAR, FAR, 24)
    there, back = (np.stack([np.full_like(z, x), np.zeros_like(z), z], axis=1) for x in (x0, x1))
    return np.concatenate([there, back[::-1]])
