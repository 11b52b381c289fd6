"""How well each way of reading masks explains a sample of their pixels."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unet_ray.config_input import Colour
from unet_ray.labels import kmeans
from unet_ray.labels.presets import PRESETS
from unet_ray.labels.recovery import nearest_colours

NEAR = 40
"""Distance in RGB units within which a lossy colour is taken for a known one."""

_FITS_SHARE, _FITS_FOUND, _FITS_COLOURS, _FITS_LABELS = 0.99, 0.8, 3, 8
_FITS_LOSSY_SHARE = 0.85
# Measured: of what lies around a true colour 70 % and more is within half of NEAR, around a mixture 52 %.
_PEAK_SHARE, _PEAK_DENSITY = 0.005, 0.6


class Purity(NamedTuple):
    """The share of the sampled pixels that a scheme explains, in 0..1, None where it does not apply; and of what."""

    scheme: str
    share: float | None
    meaning: str


class Fit(NamedTuple):
    """A preset that explains masks, and the share of pixels that it does explain."""

    preset: str
    share: float


def measure_colours(
    pixels: NDArray[np.uint8], palette: Sequence[Colour], *, bin_width: int, clusters: int, seed: int
) -> list[Purity]:
    """Say how well schemes for masks of colours explain ``(N, 3)`` uint8 pixels, N > 0; ``palette`` may be empty."""
    far = distances(pixels, palette) if palette else None
    different = np.unique(pixels, axis=0)
    centroids = different if len(different) <= clusters else kmeans.fit(pixels, clusters, seed)
    return [
        Purity(
            "palette, exact",
            None if far is None else _share(far == 0),
            "pixels of a known colour, configured or else suggested",
        ),
        Purity(
            f"palette, within {NEAR}",
            None if far is None else _share(far <= NEAR),
            f"pixels at most {NEAR} (RGB) from a known colour",
        ),
        Purity(
            f"kmeans, {clusters} clusters",
            _share(distances(pixels, centroids) <= NEAR),
            f"pixels at most {NEAR} (RGB) from the nearest centroid fitted to the sample",
        ),
        Purity(
            f"bins of {bin_width}",
            _bin_purity(pixels[:, 0], bin_width),
            "pixels whose red value is the most frequent one of its bin",
        ),
        Purity(
            "channel", _share((np.sort(pixels, axis=1)[:, :2] == 0).all(axis=1)), "pixels of which two channels are 0"
        ),
    ]


def distances(pixels: NDArray[np.uint8], colours: Sequence[Colour] | NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the Euclidean distance of each of ``(N, 3)`` pixels to the nearest colour."""
    return np.asarray(np.sqrt(nearest_colours(pixels, np.array(colours, np.uint8))[1]), np.float32)


def find_peaks(pixels: NDArray[np.uint8]) -> list[Colour]:
    """Return the colours that others of ``(N, 3)`` uint8 lie around, where half a percent of all pixels do.

    They are the most frequent colour, the most frequent one of those farther than `NEAR` from it, and so on, without
    the mixtures that edges are of: around those, colours lie evenly.
    """
    colours, counts = np.unique(pixels, axis=0, return_counts=True)
    left = counts.copy()
    peaks: list[Colour] = []
    while left.any():
        red, green, blue = colours[left.argmax()].tolist()
        far = distances(colours, [(red, green, blue)])
        around, close = counts[far <= NEAR].sum(), counts[far <= NEAR / 2].sum()
        if left[far <= NEAR].sum() >= _PEAK_SHARE * len(pixels) and close >= _PEAK_DENSITY * around:
            peaks.append((red, green, blue))
        left[far <= NEAR] = 0
    return peaks


def fit_preset(values: Sequence[int | Colour], pixels: Sequence[int]) -> Fit | None:
    """Return the preset that explains the values in masks best, ids or colours with the pixels of each.

    It must explain 99 % of the pixels; of its ids most must occur, for small numbers say little, of its colours three.
    """
    found = dict(zip(values, pixels, strict=True))
    total, best = sum(pixels), None
    for name, preset in PRESETS.items():
        ids, colours = {label.value for label in preset.labels}, {label.colour for label in preset.labels}
        known = {*ids, *preset.ignore_ids, *colours, *preset.ignore_colours}
        explained = sum(count for value, count in found.items() if value in known)
        occurring = max(len(ids & found.keys()) / len(ids), len(colours & found.keys()) / len(colours))
        enough = len(ids & found.keys()) >= _FITS_FOUND * len(ids) or len(colours & found.keys()) >= _FITS_COLOURS
        if len(ids) >= _FITS_LABELS and enough and explained >= _FITS_SHARE * total:
            rank = explained, occurring
            if best is None or rank > best[0]:
                best = rank, Fit(name, explained / total)
    return best[1] if best else None


def fit_preset_to_lossy(pixels: NDArray[np.uint8]) -> Fit | None:
    """Return the preset to whose colours most of ``(N, 3)`` uint8 pixels are near, 85 % at least.

    Among equals the one with the fewest colours is taken.
    """
    best = None
    for name, preset in PRESETS.items():
        colours = sorted({label.colour for label in preset.labels} | set(preset.ignore_colours))
        share = _share(distances(pixels, colours) <= NEAR)
        rank = share, -len(colours)
        if len(colours) >= _FITS_LABELS and share >= _FITS_LOSSY_SHARE and (best is None or rank > best[0]):
            best = rank, Fit(name, share)
    return best[1] if best else None


def _bin_purity(red: NDArray[np.uint8], bin_width: int) -> float:
    counts = np.bincount(red, minlength=256)
    modal = sum(int(counts[first : first + bin_width].max()) for first in range(0, 256, bin_width))
    return modal / len(red)


def _share(hits: NDArray[np.bool_]) -> float:
    return float(hits.mean())
