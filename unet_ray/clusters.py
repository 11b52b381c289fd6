"""The centroids of a dataset's masks: fitted on a sample that is drawn in tasks, or those of another dataset.

The sample is the same whatever the cluster looks like: masks of the train split are chosen by a hash of their
image_id, their pixels are drawn by it, and they are put together in plan order. Runs on the driver, with Ray connected.
"""

import functools
import hashlib
import heapq
import logging
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from unet_ray import pipeline
from unet_ray.config_input import Colour, ImagesSection
from unet_ray.datasets.frames import fetch_stored
from unet_ray.datasets.listing import Row
from unet_ray.errors import DatasetError, ImageError
from unet_ray.images.decode import decode_mask_colours
from unet_ray.labels import kmeans
from unet_ray.labels.classes import ClassMap
from unet_ray.table.read import open_table

logger = logging.getLogger(__name__)

_MASKS = 1000
_PIXELS = 256  # of each mask
_MASKS_PER_TASK = 8


def fit_centroids(rows: Iterable[Row], clusters: int, *, policy: ImagesSection, seed: int) -> tuple[Colour, ...]:
    """Return the K-Means centroids of the masks in the train split, in the order of `kmeans.fit`.

    Args:
        rows: The rows to plan, in plan order; a thousand of them are held at a time.
        clusters: Number of clusters.
        policy: How the files are decoded; pairs that cannot be used are left out of the sample.
        seed: What the choice of masks and pixels and the first centres follow from.

    Raises:
        DatasetError: Not one pair of the sample can be used.
        ConfigError: The masks have too few colours.
    """
    chosen = choose(rows, seed)
    stage = functools.partial(_sample, policy=policy, seed=seed)
    found = sorted(pipeline.collect(chosen, _MASKS_PER_TASK, stage), key=lambda row: row["place"])
    samples = [row["colours"] for row in found if row["colours"] is not None]
    if not samples:
        first = f", the first because of {found[0]['error']}" if found else ""
        raise DatasetError(
            f"labels.scheme: kmeans needs masks in the train split, of {len(found)} looked at none can be used{first}"
        )
    centroids = kmeans.fit(np.frombuffer(b"".join(samples), np.uint8).reshape(-1, 3), clusters, seed)
    logger.info("%d clusters of the colours in %d masks", clusters, len(samples))
    return tuple((r, g, b) for r, g, b in centroids.tolist())


def read_centroids(uri: str) -> tuple[Colour, ...]:
    """Return the centroids with which a dataset was prepared.

    Raises:
        DatasetError: It was prepared without K-Means, or is no dataset.
        TableError: There is none, or it is not complete.
    """
    plan = open_table(uri).plan
    if plan.settings.get("labels.scheme") != "kmeans":
        raise DatasetError(
            f"labels.centroids: {uri} was prepared without centroids; take a dataset of labels.scheme: kmeans"
        )
    return ClassMap.from_facts(plan.facts).palette


def choose(rows: Iterable[Row], seed: int) -> list[tuple[int, Row]]:
    """Return the masks of the train split to sample, each with its place: the thousand of the smallest hash, in order.

    Pure: a mask that is chosen stays chosen when others are taken away.
    """
    masks = ((place, row) for place, row in enumerate(rows) if row["split"] == "train" and row["mask_uri"] is not None)
    return sorted(heapq.nsmallest(_MASKS, masks, key=lambda item: _hash(seed, item[1]["image_id"])), key=lambda i: i[0])


def draw_pixels(mask: NDArray[np.uint8], image_id: str, seed: int) -> NDArray[np.uint8]:
    """Return ``(N, 3)`` of the colours of an ``(H, W, 3)`` mask, drawn by its image_id, N the same for every mask."""
    rng = np.random.default_rng(int.from_bytes(_hash(seed, image_id), "big"))
    flat = mask.reshape(-1, 3)
    return flat[rng.integers(len(flat), size=_PIXELS)]


def _sample(item: tuple[int, Row], *, policy: ImagesSection, seed: int) -> pa.Table:
    place, row = item
    colours = error = None
    try:
        pair = fetch_stored(row, decode_mask_colours, policy)
        assert pair.mask is not None
        colours = draw_pixels(pair.mask, row["image_id"], seed).tobytes()
    except ImageError as unusable:
        error = str(unusable)
    schema = pa.schema({"place": pa.int64(), "colours": pa.binary(), "error": pa.string()})
    return pa.table({"place": [place], "colours": [colours], "error": [error]}, schema=schema)


def _hash(seed: int, image_id: str) -> bytes:
    return hashlib.sha256(f"kmeans/{seed}/{image_id}".encode()).digest()
