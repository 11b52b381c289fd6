"""Statistics of a prepared dataset, computed from the integers of its rows: what training and monitoring need."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from unet_ray.metrics import median_frequency_weights
from unet_ray.schema import DATASET, DATASET_SUMMED, OK
from unet_ray.table.read import open_table

BRIGHTNESS_BINS = 32
"""Bins of equal width over 0..255, of the mean luma of an image."""

_LUMA = np.array([299, 587, 114])  # thousandths of R, G and B (ITU-R BT.601)
_COLUMNS = ("split", "status", "error_code", "height", "width", *DATASET_SUMMED)


def compute_stats(uri: str) -> dict[str, Any]:
    """Return the statistics of a published dataset as JSON values, from one part at a time.

    Per split: rows, ok, quarantined by code, sizes, a histogram of brightness, and per class the pixels, their share
    of the labelled pixels, the images it occurs in and the pixels of those. For the training split also the
    median-frequency weight of each class, and the mean and standard deviation of R, G and B (in 0..255), which
    prediction will use. Ratios without a denominator are None. ``input`` is what the plan says of the listing.

    Raises:
        TableError: There is no dataset, or it is not complete.
    """
    table = open_table(uri)
    classes = table.plan.facts["classes"]
    nothing = count_rows(DATASET.empty_table(), len(classes))
    counts: dict[str, dict[str, Any]] = {}
    for rows in table.scan(_COLUMNS):
        for split in pc.unique(rows["split"]).to_pylist():
            found = count_rows(rows.filter(pc.equal(rows["split"], split)), len(classes))
            before = counts.get(split, nothing)
            counts[split] = {name: before[name] + found[name] for name in found}
    train = counts.get("train", nothing)
    mean, std = _mean_and_std(train)
    return {
        "classes": classes,
        "mean": mean,
        "std": std,
        "median_frequency_weights": median_frequency_weights(train["class_pixels"], train["class_image_pixels"]),
        "splits": {split: _describe(found) for split, found in counts.items()},
        "input": table.plan.notes,
    }


def count_rows(rows: pa.Table, num_classes: int) -> dict[str, Any]:
    """Count rows of a dataset (`schema.DATASET`); the counts of two tables are added name by name."""
    usable = pc.equal(rows["status"], OK)
    ok, quarantined = rows.filter(usable), rows.filter(pc.invert(usable))
    heights_N, widths_N = (ok[name].to_numpy().astype(np.int64) for name in ("height", "width"))
    pixels_N = heights_N * widths_N
    class_pixels_NK = _matrix(ok["class_pixels"], num_classes)
    sums_NC, square_sums_NC = _matrix(ok["channel_sum"], 3), _matrix(ok["channel_square_sum"], 3)
    brightness_N = sums_NC @ _LUMA * BRIGHTNESS_BINS // (256 * 1000 * pixels_N)
    return {
        "rows": len(rows),
        "ok": len(ok),
        "errors": Counter(quarantined["error_code"].to_pylist()),
        "sizes": Counter(f"{height}x{width}" for height, width in zip(heights_N, widths_N, strict=True)),
        "brightness": np.bincount(brightness_N, minlength=BRIGHTNESS_BINS),
        "pixels": int(pixels_N.sum()),
        "ignored_pixels": pc.sum(ok["ignored_pixels"], min_count=0).as_py(),
        "class_pixels": class_pixels_NK.sum(axis=0),
        "class_images": (class_pixels_NK > 0).sum(axis=0),
        "class_image_pixels": pixels_N @ (class_pixels_NK > 0),
        # Sums of squares outgrow 64 bits.
        "channel_sum": sums_NC.sum(axis=0).astype(object),
        "channel_square_sum": square_sums_NC.sum(axis=0).astype(object),
    }


def _describe(counts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the counts of a split as JSON values, with the share of each class."""
    labelled = int(counts["class_pixels"].sum())
    arrays = ("brightness", "class_pixels", "class_images", "class_image_pixels")
    return {
        **{name: counts[name] for name in ("rows", "ok", "errors", "sizes", "ignored_pixels")},
        **{name: counts[name].tolist() for name in arrays},
        "class_shares": [pixels / labelled if labelled else None for pixels in counts["class_pixels"].tolist()],
    }


def _mean_and_std(counts: Mapping[str, Any]) -> tuple[list[float] | None, list[float] | None]:
    pixels = counts["pixels"]
    if not pixels:
        return None, None
    pairs = list(zip(counts["channel_sum"], counts["channel_square_sum"], strict=True))
    mean = [int(total) / pixels for total, _ in pairs]
    # In integers up to the root: the difference of two rounded squares may be negative.
    variances = [(pixels * int(squares) - int(total) ** 2) / pixels**2 for total, squares in pairs]
    return mean, [variance**0.5 for variance in variances]


def _matrix(lists: pa.ChunkedArray, width: int) -> NDArray[np.int64]:
    """Return the rows of a column of lists as ``(N, width)`` int64."""
    values: NDArray[np.int64] = pc.list_flatten(lists).to_numpy().reshape(-1, width)
    return values
