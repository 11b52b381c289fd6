"""How far a distribution has moved from a reference: the population stability index.

The sum over bins of ``(p - q) log(p / q)`` (Siddiqi, Credit Risk Scorecards, Wiley 2006, section 8). Of two samples of
one distribution it is about ``1 / n + 1 / m`` times a chi-squared number of one degree of freedom less than bins
(Yurdakul and Naranjo, Statistical Properties of the Population Stability Index, J. Risk Model Validation 14, 2020).

Shapes: L levels of a number, B bins.
"""

from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

LARGE = 0.25
"""Siddiqi: below 0.1 nothing changed to speak of, above 0.25 much did."""

MOST_BINS = 12
_BINS = MOST_BINS - 2
_SURE = NormalDist().inv_cdf(0.999)


def quantile_bins(reference_L: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the bin of each level, ``(L,)`` int64: ten of about as many in the reference, fewer if it is lumpy.

    Levels below all of the reference, and those above, have bins of their own: what never occurred is news, too.
    """
    occurring = np.flatnonzero(reference_L)
    ends = np.cumsum(reference_L[occurring])
    middles = ends - reference_L[occurring] / 2
    _, bins = np.unique((_BINS * middles / ends[-1]).astype(np.int64), return_inverse=True)
    last_before = np.searchsorted(occurring, np.arange(len(reference_L)), side="right") - 1
    bins_L = 1 + bins[np.maximum(last_before, 0)]
    bins_L[: occurring[0]] = 0
    bins_L[occurring[-1] + 1 :] = bins_L[occurring[-1]] + 1
    return np.asarray(bins_L, np.int64)


def stability_index(counts_B: NDArray[np.int64], reference_B: NDArray[np.int64]) -> float:
    """Return the index of ``(B,)`` counts; half a count more in every bin keeps it finite."""
    p_B, q_B = ((counts + 0.5) / (counts.sum() + 0.5 * len(counts)) for counts in (counts_B, reference_B))
    return float(((p_B - q_B) * np.log(p_B / q_B)).sum())


def index_by_chance(num_bins: int, size: int, reference_size: int) -> float:
    """Return what the index of two samples of one distribution exceeds once in a thousand times.

    The quantile of the chi-squared distribution is Wilson and Hilferty's (PNAS 17, 1931).
    """
    degrees = num_bins - 1
    if not degrees:
        return 0.0
    spread = 2 / (9 * degrees)
    chi_squared = degrees * (1 - spread + _SURE * spread**0.5) ** 3
    return float(chi_squared * (1 / size + 1 / reference_size))
