"""A table of predictions to export, with photos: nine rows in three shards and two groups, two of them bad."""

import csv
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tests.unit.image_files import POLICY, blobs, gradient
from tests.unit.inline_table import begin
from unet_ray.config_input import ImagesSection, LabelsSection
from unet_ray.labels.classes import ClassMap
from unet_ray.labels.scheme import make_class_map
from unet_ray.metrics import count_confusion
from unet_ray.schema import IDENTITY, OK, PREDICTION, QUARANTINED
from unet_ray.table.commit import QuarantineLimits, fill
from unet_ray.table.parts import write_part

CLASSES = make_class_map(
    LabelsSection(
        classes=("road", "sky", "car", "void sign"), palette=((128, 64, 128), (0, 0, 0), (1, 2, 3), (1, 2, 3))
    )
)
"""Names and colours with all that makes trouble: a space, black, and one colour twice."""

NUM_ROWS, QUARANTINED_ROW, LOST_ROW = 9, 3, 5
GOOD = tuple(row_id for row_id in range(NUM_ROWS) if row_id not in (QUARANTINED_ROW, LOST_ROW))
"""Rows whose mask and photo are there."""
ORDER = {"drive": (4, 2, 1, 0), "": (6, 7, 8)}
"""The good rows of each group, in the order of their frames; the second group does not number them."""


def mask_of(row_id: int) -> NDArray[np.uint8]:
    """Return the mask of a row: two classes in some, four in others, in several sizes."""
    return blobs(2 + 2 * (row_id % 2), 24 + row_id % 2, 34, row_id).astype(np.uint8)


def photo_of(row_id: int) -> NDArray[np.uint8]:
    """Return the photo of a row."""
    return np.roll(gradient(*mask_of(row_id).shape), 3 * row_id, axis=1)


def publish(root: Path, classes: ClassMap = CLASSES, policy: ImagesSection = POLICY) -> str:
    """Write the photos and publish the table; return its URI. Row 1 is a JPEG, the others are PNGs."""
    rows = []
    for row_id in range(NUM_ROWS):
        path = root / "photos" / f"{row_id}.{'jpg' if row_id == 1 else 'png'}"
        path.parent.mkdir(exist_ok=True)
        if row_id != LOST_ROW:
            cv2.imwrite(str(path), photo_of(row_id)[:, :, ::-1])
        group, frame = ("drive", 100 - row_id) if row_id < 6 else ("", None)
        rows.append(
            {
                "image_id": f"../{path.name}", "image_uri": str(path), "group": group, "frame": frame,
                "split": "val" if row_id < 6 else "",
            }
        )  # fmt: skip
    settings = {f"images.{key}": value for key, value in asdict(policy).items()}
    plan = begin(str(root / "table"), rows, facts=asdict(classes) | {"mask_encoding": "png"}, settings=settings)

    def produce(units: Any) -> Any:
        for unit in reversed(units):  # parts of a shard come in the order in which they were done
            predicted = [_predict(row) for row in plan.read(unit)]
            yield write_part(plan, [unit], pa.Table.from_pylist(predicted, schema=PREDICTION))

    fill(plan, produce, limits=QuarantineLimits(fraction=0.5))
    return plan.uri


def listed(folder: Path, name: str = "frames.csv") -> list[dict[str, str]]:
    """Return the rows of a list."""
    with (folder / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _predict(row: Mapping[str, Any]) -> dict[str, Any]:
    result = {name: row[name] for name in IDENTITY}
    if row["row_id"] == QUARANTINED_ROW:
        return result | {"status": QUARANTINED, "error_code": "truncated", "error_message": "cannot be used"}
    mask = mask_of(row["row_id"])
    class_pixels = np.bincount(mask.ravel(), minlength=4).tolist()
    truth = count_confusion(mask, mask, 4).ravel().tolist() if row["row_id"] != 2 else None
    return result | {
        "status": OK,
        "pred_mask": cv2.imencode(".png", mask)[1].tobytes(),
        "height": mask.shape[0],
        "width": mask.shape[1],
        "class_pixels": class_pixels,
        "confidence_sum": [255 * pixels for pixels in class_pixels],
        "entropy_sum": 51 * mask.size,
        "confusion": truth,
        "expected_miou": 0.5,
    }
