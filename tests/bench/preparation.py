"""How fast `prepare` is beside a plain pool of processes that does the same work, for image/mask pairs of two kinds."""

import functools
import os
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tests.bench.clock import Clock, row
from tests.bench.peers import plain_pool
from unet_ray import prepare
from unet_ray.config_file import parse_config
from unet_ray.datasets import layouts, synthetic
from unet_ray.labels.scheme import make_class_map

CAMVID_COPIES = 5
PAIRS, SCENES = 4000, 50


def measure_prepare(scratch: Path, camvid: Path) -> list[dict[str, Any]]:
    """Return a row for a whole run and one for the time after its first part, for each kind of input.

    Args:
        scratch: Where inputs and outputs may lie.
        camvid: A folder with ``images`` and ``masks``.
    """
    for copy in range(CAMVID_COPIES):
        for path in camvid.glob("*/*"):
            place = scratch / "camvid" / path.parent.name / f"{copy}_{path.name}"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(path.resolve())
    draw_pairs(scratch / "pairs")
    folder = {"data": {"root": str(scratch / "camvid")}, "labels": {"preset": "camvid_11"}}
    pairs = {"data": {"layout": "pairs", "root": str(scratch / "pairs")}, "labels": {"preset": "cityscapes_8"}}
    return [
        row for name, document in (("camvid", folder), ("pairs", pairs)) for row in compare(name, document, scratch)
    ]


def compare(name: str, document: dict[str, Any], scratch: Path) -> list[dict[str, Any]]:
    """Prepare an input with the pool and with us."""
    config = parse_config({**document, "run": {"storage": str(scratch), "name": name}}, {}, "bench")
    classes = make_class_map(layouts.labels_of(config))
    check = functools.partial(prepare.check_pairs, classes=classes, policy=config.images, resize=None)
    with layouts.list_inputs(config) as listing:
        rows = [{**planned, "row_id": row_id} for row_id, planned in enumerate(listing.rows())]
    against = "plain pool of processes"
    plain = len(rows) / plain_pool(rows, check, scratch / f"plain_{name}", os.cpu_count() or 1)
    clock = Clock()
    started = time.perf_counter()
    prepare.run(config, on_progress=clock)
    whole = len(rows) / (time.perf_counter() - started)
    return [
        row(f"prepare {name}, steady", clock.rate(), "pairs/s", against, plain),
        row(f"prepare {name}, {len(rows)} pairs with start-up", whole, "pairs/s", against, plain),
    ]


def draw_pairs(folder: Path) -> None:
    """Draw street scenes, each beside its mask in the colours of Cityscapes, as JPEG files of 512 x 256 px."""
    palette = np.array(synthetic.PALETTE, np.uint8)
    (folder / "train").mkdir(parents=True)
    for number in range(SCENES):
        image, mask = synthetic.render_frame(0, number, 0, 256, 256)
        both = np.concatenate([image, palette[mask]], axis=1)
        cv2.imwrite(str(folder / f"train/{number + 1}.jpg"), both[:, :, ::-1])
    for number in range(SCENES, PAIRS):
        (folder / f"train/{number + 1}.jpg").symlink_to(folder / f"train/{number % SCENES + 1}.jpg")
