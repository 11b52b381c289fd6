"""What stands in a synthetic street, and where: drawn once per sequence, before any picture is made.

Lengths are metres, speeds metres per frame, colours RGB from 0 to 255. The driver looks along z; x points to
the right of the road's middle and y up. ``side`` is -1 on the left and 1 on the right.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Colour = tuple[float, float, float]
Floats = NDArray[np.float64]

WALLS: tuple[Colour, ...] = (
    (156, 88, 70), (176, 112, 86), (120, 78, 66), (206, 186, 150), (226, 214, 190), (168, 166, 160),
    (196, 202, 204), (188, 160, 120), (150, 162, 172), (222, 196, 160), (132, 120, 110), (204, 150, 120),
)  # fmt: skip
ROOFS: tuple[Colour, ...] = ((150, 78, 58), (84, 82, 88), (112, 86, 74))
PAINTS: tuple[Colour, ...] = (
    (186, 34, 34), (34, 62, 132), (226, 226, 228), (42, 44, 48), (142, 148, 156), (28, 92, 72),
    (206, 160, 44), (86, 112, 160), (120, 32, 46), (190, 196, 200), (214, 98, 36),
)  # fmt: skip
SHOPS: tuple[Colour, ...] = (
    (52, 74, 66), (60, 66, 92), (98, 52, 56), (66, 60, 58), (176, 164, 140), (120, 128, 124),
)  # fmt: skip
CLOTHES: tuple[Colour, ...] = (
    (230, 40, 50), (250, 120, 24), (248, 196, 36), (236, 60, 132), (30, 90, 214), (120, 60, 190),
)  # fmt: skip
TRIMS: tuple[Colour, ...] = ((232, 228, 220), (96, 92, 90), (190, 178, 160))
TROUSERS: tuple[Colour, ...] = ((38, 42, 58), (58, 74, 112), (96, 84, 70), (30, 30, 32), (120, 120, 124))
SKINS: tuple[Colour, ...] = ((236, 196, 166), (206, 158, 122), (150, 104, 76), (98, 68, 52))
HAIRS: tuple[Colour, ...] = ((40, 30, 26), (94, 64, 40), (190, 150, 92), (150, 150, 150))
STEELS: tuple[Colour, ...] = ((30, 88, 86), (36, 78, 106), (42, 98, 80))
LEAVES: tuple[Colour, ...] = ((72, 116, 46), (58, 98, 52), (104, 132, 50), (86, 124, 66), (140, 128, 44))
PAVINGS: tuple[Colour, ...] = ((178, 170, 158), (164, 162, 160), (186, 168, 146))

LOOP = 96.0  # the fixed street repeats after so many metres
BODIES = {"hatchback": (3.9, 1.5), "saloon": (4.5, 1.42), "van": (4.9, 2.0)}  # length, height
POLES = {"lamp": 6.6, "signal": 3.6, "sign": 3.0}  # height


@dataclass(frozen=True)
class Light:
    """A time of day: colours of the sky, tint of sunlight, how dark shadows are and how thick the haze."""

    zenith: Colour
    low_sky: Colour
    tint: Colour
    shadow: float
    haze: float
    clouds: float
    lit_windows: float


LIGHTS = (
    Light((62, 122, 206), (188, 214, 236), (1.06, 1.04, 1.00), 0.52, 0.004, 0.55, 0.02),
    Light((84, 140, 214), (206, 222, 236), (1.08, 1.05, 0.98), 0.55, 0.003, 0.25, 0.00),
    Light((164, 172, 182), (216, 219, 222), (0.88, 0.91, 0.95), 0.88, 0.007, 0.40, 0.10),
    Light((92, 126, 180), (250, 206, 152), (1.10, 0.95, 0.78), 0.58, 0.006, 0.60, 0.10),
    Light((48, 62, 112), (218, 154, 128), (0.72, 0.68, 0.78), 0.86, 0.006, 0.45, 0.45),
    Light((196, 202, 208), (226, 228, 230), (0.92, 0.93, 0.96), 0.92, 0.011, 0.15, 0.15),
)


@dataclass(frozen=True, kw_only=True)
class Placed:
    """Something at (x, z) that moves along z and comes round again within ``span`` of the camera."""

    x: float
    z: float
    span: tuple[float, float]
    speed: float = 0.0

    def distance(self, travelled: float, frame: int) -> float:
        """Return how far ahead of the camera it starts, within ``span``."""
        low, high = self.span
        return (self.z + self.speed * frame - travelled - low) % (high - low) + low


@dataclass(frozen=True, kw_only=True)
class Building(Placed):
    """A block of ``storeys``; each of ``lit`` says whether the window in that (storey, column) shines."""

    side: int
    length: float
    storeys: int
    brick: bool
    pitched: bool
    wall: Colour
    roof: Colour
    trim: Colour
    shop: Colour
    lit: NDArray[np.bool_]

    @property
    def height(self) -> float:
        """Metres from the pavement to the roof."""
        return 4.2 + 3.1 * (self.storeys - 1)


@dataclass(frozen=True, kw_only=True)
class Tree(Placed):
    """A trunk and a crown of leaf clumps, large ones first.

    ``clumps`` (n, corners, 2) are outlines in metres right and up of the crown's middle, ``shine`` (n,) their
    brightness.
    """

    height: float
    radius: float
    leaf: Colour
    clumps: Floats
    shine: Floats


@dataclass(frozen=True, kw_only=True)
class Pole(Placed):
    """A lamp post, a traffic light or a sign post, as ``kind`` says; its arm reaches over the road."""

    side: int
    kind: str
    height: float
    width: float
    steel: Colour


@dataclass(frozen=True, kw_only=True)
class Car(Placed):
    """A car; ``oncoming`` ones show their front."""

    length: float
    height: float
    body: str
    oncoming: bool
    paint: Colour


@dataclass(frozen=True, kw_only=True)
class Pedestrian(Placed):
    """Somebody walking along the pavement; ``stride`` is the phase of the step at frame 0."""

    height: float
    stride: float
    top: Colour
    trousers: Colour
    skin: Colour
    hair: Colour


@dataclass(frozen=True)
class Road:
    """The cross-section: metres from the middle to each side's kerb and facades, and the side driven on.

    Cars park on the other side only, so its kerb is farther out.
    """

    drive_side: int
    kerbs: dict[int, float]
    facades: dict[int, float]

    @property
    def lane(self) -> float:
        """The middle of the lane driven in; the oncoming one mirrors it."""
        return 1.55 * self.drive_side


@dataclass(frozen=True)
class Scene:
    """One sequence's street: its geometry, its light, its camera and everything that stands in it."""

    road: Road
    light: Light
    sun_side: int
    eye: tuple[float, float]
    horizon: float
    pace: float
    bend: float
    bend_phase: float
    asphalt: Colour
    paving: Colour
    exposure: float
    blur: float
    grain: float
    skyline: Floats
    patches: Floats
    items: tuple[Placed, ...]


@lru_cache(maxsize=8)
def lay_out(seed: int, sequence: int) -> Scene:
    """Draw the street of one sequence; the same arguments always give the same street."""
    rng = np.random.default_rng((seed, sequence))
    drive_side = int(rng.choice((-1, 1)))
    kerbs = {drive_side: rng.uniform(3.3, 3.9), -drive_side: rng.uniform(4.9, 5.5)}
    facades = {side: kerb + rng.uniform(3.6, 4.8) for side, kerb in kerbs.items()}
    road = Road(drive_side, kerbs, facades)
    light = LIGHTS[int(rng.integers(len(LIGHTS)))]
    pace = rng.uniform(0.12, 0.26)
    grey = rng.uniform(78, 112)
    return Scene(
        road=road,
        light=light,
        sun_side=int(rng.choice((-1, 1))),
        eye=(road.lane + rng.uniform(-0.2, 0.2), rng.uniform(1.35, 1.75)),
        horizon=rng.uniform(0.42, 0.50),
        pace=pace,
        bend=rng.uniform(-0.0013, 0.0013),
        bend_phase=rng.uniform(0, 2 * np.pi),
        asphalt=(grey, grey * rng.uniform(0.97, 1.01), grey * rng.uniform(0.98, 1.06)),
        paving=_vary(rng, PAVINGS, 0.08),
        exposure=rng.uniform(0.84, 1.10),
        blur=rng.uniform(0.45, 0.80),
        grain=rng.uniform(1.5, 4.5),
        skyline=rng.uniform(3, 16, 48),
        patches=rng.uniform((-kerbs[-1], 0, 0.5, 0.6), (kerbs[1] - 1.6, LOOP, 1.6, 5.0), (11, 4)),
        items=(
            *_buildings(rng, road, light.lit_windows),
            *_trees(rng, road),
            *_poles(rng, road),
            *_cars(rng, road, pace),
            *_pedestrians(rng, road),
        ),
    )


def _vary(rng: np.random.Generator, colours: Sequence[Colour], amount: float) -> Colour:
    red, green, blue = colours[int(rng.integers(len(colours)))]
    dim_red, dim_green, dim_blue = rng.uniform(1 - amount, 1 + amount, 3).tolist()
    return red * dim_red, green * dim_green, blue * dim_blue


def _buildings(rng: np.random.Generator, road: Road, lit_windows: float) -> Iterator[Building]:
    for side, facade in road.facades.items():
        plots = rng.uniform(7, 14, 9)
        plots *= LOOP / plots.sum()
        for z, plot in zip(np.cumsum(plots).tolist(), plots.tolist(), strict=True):
            if rng.random() < 0.12:
                continue
            storeys = int(rng.choice((2, 3, 3, 4, 4, 5, 6)))
            yield Building(
                x=side * (facade + rng.uniform(0, 0.5)),
                z=z,
                span=(-16, LOOP - 16),
                side=side,
                length=plot - float(rng.choice((0.0, 0.0, 1.8))),
                storeys=storeys,
                brick=rng.random() < 0.5,
                pitched=storeys < 5 and rng.random() < 0.6,
                wall=_vary(rng, WALLS, 0.10),
                roof=_vary(rng, ROOFS, 0.10),
                trim=_vary(rng, TRIMS, 0.08),
                shop=_vary(rng, SHOPS, 0.15),
                lit=rng.random((storeys, 6)) < lit_windows,
            )


def _trees(rng: np.random.Generator, road: Road) -> Iterator[Tree]:
    leaf = _vary(rng, LEAVES, 0.1)
    for side, kerb in road.kerbs.items():
        for z in range(6, int(LOOP), 12):
            if rng.random() < 0.25:
                continue
            radius = rng.uniform(1.5, 2.3)
            clumps, shine = _crown(rng)
            yield Tree(
                x=side * (kerb + rng.uniform(0.6, 1.8)),
                z=z + rng.uniform(-1.5, 1.5),
                span=(-4, LOOP - 4),
                height=rng.uniform(4.6, 7.0),
                radius=radius,
                leaf=_vary(rng, (leaf, *LEAVES), 0.12),
                clumps=clumps * radius,
                shine=shine,
            )


def _crown(rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return the clumps of a crown of radius 1 and their brightness: lobes, lighter towards their tops."""
    count, corners = 130, 9
    lobes = np.vstack([np.zeros((2, 2)), rng.uniform(-0.55, 0.55, (6, 2))])
    offsets = rng.normal(0, 0.2, (count, 2)).clip(-0.38, 0.38) * np.linspace(0.3, 1.2, count)[:, None]
    middles = lobes[np.arange(count) % len(lobes)] + offsets
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    reach = np.linspace(0.42, 0.09, count)[:, None] * rng.uniform(0.6, 1.25, (count, corners))
    outlines = np.stack([np.cos(angles), np.sin(angles)], axis=1) * reach[..., None]
    shine = np.linspace(0.62, 0.87, count) + 0.5 * offsets[:, 1] + 0.16 * middles[:, 1]
    return middles[:, None] + outlines, shine + rng.uniform(-0.12, 0.12, count)


def _poles(rng: np.random.Generator, road: Road) -> Iterator[Pole]:
    steel = _vary(rng, STEELS, 0.1)
    for side, kerb in road.kerbs.items():
        for z in (0, 12):
            kind = str(rng.choice(("lamp", "lamp", "signal", "sign")))
            yield Pole(
                x=side * (kerb + rng.uniform(0.35, 0.6)),
                z=z + rng.uniform(-1, 1),
                span=(-2, 22),
                side=side,
                kind=kind,
                height=POLES[kind] * rng.uniform(0.95, 1.15),
                width=rng.uniform(0.30, 0.36),
                steel=steel,
            )


def _cars(rng: np.random.Generator, road: Road, pace: float) -> Iterator[Car]:
    yield _car(rng, road.lane, rng.uniform(8, 16), (6, 90), pace * 1.03, oncoming=False)
    for z in (6, 36, 66):
        speed = -pace * rng.uniform(0.9, 1.0)
        yield _car(rng, -road.lane, z + rng.uniform(0, 10), (-8, 82), speed, oncoming=True)
    busy = rng.uniform(0.2, 0.7)
    bays = -road.drive_side * (road.kerbs[-road.drive_side] - 1.08)
    for z in range(0, 84, 7):
        if rng.random() < busy:
            yield _car(rng, bays, z + rng.uniform(0, 1.2), (-8, 76), 0.0, oncoming=True)


def _car(rng: np.random.Generator, x: float, z: float, span: tuple[float, float], speed: float, oncoming: bool) -> Car:
    body = str(rng.choice(list(BODIES)))
    length, height = BODIES[body]
    return Car(
        x=x,
        z=z,
        span=span,
        speed=speed,
        length=length,
        height=height,
        body=body,
        oncoming=oncoming,
        paint=_vary(rng, PAINTS, 0.12),
    )


def _pedestrians(rng: np.random.Generator, road: Road) -> Iterator[Pedestrian]:
    for side, apart in ((road.drive_side, 3), (-road.drive_side, 6)):
        for z in range(0, 24, apart):
            yield Pedestrian(
                x=side * rng.uniform(road.kerbs[side] + 0.9, road.facades[side] - 0.5),
                z=z + rng.uniform(0, 3),
                span=(0, 24),
                speed=float(rng.choice((-1, 1))) * rng.uniform(0.06, 0.12),
                height=rng.uniform(1.6, 1.9),
                stride=rng.uniform(0, 2 * np.pi),
                top=_vary(rng, CLOTHES, 0.1),
                trousers=_vary(rng, TROUSERS, 0.2),
                skin=_vary(rng, SKINS, 0.05),
                hair=_vary(rng, HAIRS, 0.1),
            )
