"""A small prepared dataset, made as `prepare.run` makes one but in this process, without Ray."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tests.unit.image_files import POLICY, encode, gradient
from unet_ray import storage
from unet_ray.config_input import LabelsSection
from unet_ray.datasets.inputs import add_folder
from unet_ray.datasets.listing import Listing, Row
from unet_ray.datasets.prepared import ROW_GROUP_ROWS
from unet_ray.datasets.stats import compute_stats
from unet_ray.documents import pack_document
from unet_ray.labels.scheme import make_class_map
from unet_ray.prepare import check_pairs
from unet_ray.schema import DATASET_SUMMED
from unet_ray.table.commit import QuarantineLimits, fill
from unet_ray.table.parts import Part, write_part
from unet_ray.table.plan import Terms, Unit, create_plan

CLASSES = make_class_map(LabelsSection(classes=("sky", "road", "car"), ignore_ids=(11, 255), background="sky"))
PER_GROUP = 11
SHARD_ROWS = 12


def draw_pairs(root: Path) -> None:
    """Write two groups of eleven pairs; of the second group, frame 3 is cut off and frame 5 has no mask."""
    for group in ("left", "right"):
        for number in range(PER_GROUP):
            image = gradient(16, 24 + 4 * (number == 0))
            image[:, :, 0] = number
            mask = np.full(image.shape[:2], 1, np.uint8)
            mask[:2] = 11
            mask[2, :number] = 2
            for folder, data in (("images", encode(image, "PNG")), ("masks", encode(mask, "PNG"))):
                storage.write(f"{root}/{folder}/{group}/{number}.png", data)
    cut = root / "images/right/3.png"
    cut.write_bytes(cut.read_bytes()[:-50])
    (root / "masks/right/5.png").unlink()


def list_pairs_of(root: Path) -> list[Row]:
    """List the pairs of `draw_pairs`: left trains, right validates."""
    with Listing() as listing:
        add_folder(listing, f"{root}/images", f"{root}/masks", prefix="images/")
        return [row | {"split": {"left": "train", "right": "val"}[row["group"]]} for row in listing.rows()]


def prepare_here(uri: str, rows: Sequence[Row], resize: tuple[int, int] | None = None) -> dict[str, Any]:
    """Prepare rows into a dataset; return its statistics."""
    plan = create_plan(
        uri,
        rows,
        Terms(
            kind="dataset",
            settings={"data.resize": resize},
            facts=asdict(CLASSES),
            summed=DATASET_SUMMED,
            shard_rows=SHARD_ROWS,
            unit_rows=SHARD_ROWS,
        ),
        notes={"images": len(rows)},
    )

    def produce(units: Sequence[Unit]) -> Iterator[Part]:
        for unit in units:
            checked = check_pairs(plan.read(unit), classes=CLASSES, policy=POLICY, resize=resize)
            yield write_part(plan, [unit], checked, row_group_rows=ROW_GROUP_ROWS)

    fill(plan, produce, limits=QuarantineLimits(fraction=0.5))
    stats = compute_stats(uri)
    storage.write(f"{uri}/stats.json", pack_document(stats))
    return stats
