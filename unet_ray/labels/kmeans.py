"""K-Means of the colours in masks, the same on every run: for masks whose colours nobody knows."""

import cv2
import numpy as np
from numpy.typing import NDArray

from unet_ray.errors import ConfigError
from unet_ray.labels.recovery import pack_colours

_ATTEMPTS = 8
_ROUNDS, _MOVED = 100, 0.1  # a round in which no centroid moves farther than this, in RGB units, is the last


def fit(samples: NDArray[np.uint8], clusters: int, seed: int) -> NDArray[np.uint8]:
    """Return ``(K, 3)`` uint8 centroids of ``(N, 3)`` uint8 colours, in ascending order of red, then green, then blue.

    Each attempt starts with centres drawn by k-means++ from the seed, and the one with the smallest squares counts.
    The order makes class ids a matter of the colours, not of the attempt. Centres that round to one colour are one
    centroid. Runs on one thread.

    Raises:
        ConfigError: The colours do not make so many clusters.
    """
    num_colours = len(np.unique(pack_colours(samples[None])))
    if num_colours < clusters:
        raise ConfigError(
            f"labels.clusters: must be at most {num_colours}, the colours in the sampled masks, got {clusters}"
        )
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    cv2.setRNGSeed(seed % 2**31)
    try:
        criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_MAX_ITER, _ROUNDS, _MOVED)
        _, _, centres = cv2.kmeans(
            samples.astype(np.float32), clusters, None, criteria, _ATTEMPTS, cv2.KMEANS_PP_CENTERS  # type: ignore[call-overload]
        )  # fmt: skip
    finally:
        cv2.setNumThreads(threads)
    return np.unique(np.rint(centres).astype(np.uint8), axis=0)
