"""Planning takes the same memory however many images are listed.

``python -m tests.faults.test_scale folder 100000 1000000`` (or ``list``) prints what so many rows take, one after
the other: the peak of memory is the process's so far.
"""

import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import unet_ray.prepare  # noqa: F401  # what the driver of `prepare` holds anyway
from unet_ray.config_input import DataSection
from unet_ray.datasets.inputs import add_list
from unet_ray.datasets.listing import Listing
from unet_ray.schema import DATASET_SUMMED
from unet_ray.storage import ObjectInfo
from unet_ray.table.plan import Terms, create_plan

PER_SEQUENCE = 1000
FEW, MANY = 20_000, 200_000
MOST_MB, MOST_GROWTH_MB = 500, 60


def objects(root: str, count: int, suffix: str, seed: int | None = None) -> Iterator[ObjectInfo]:
    """Yield what a store lists: every frame of some long videos; with a seed, each video in the order of a disk."""
    for sequence in range(0, count, PER_SEQUENCE):
        frames = list(range(PER_SEQUENCE))
        if seed is not None:
            random.Random(seed + sequence).shuffle(frames)
        for frame in frames:
            key = f"camera_{sequence // PER_SEQUENCE:05d}/2026/frame_{frame:06d}{suffix}"
            yield ObjectInfo(key=key, uri=f"{root}/{key}", size_bytes=100_000 + frame, etag=f"{sequence + frame:032x}")


def plan_rows(source: str, count: int, scratch: Path) -> dict[str, float]:
    """List so many images, split them, store their plan; return the rows, the seconds and the peak of memory."""
    started = time.perf_counter()
    with Listing() as listing:
        if source == "folder":
            images = objects("s3://bucket/images", count, ".jpg", seed=1)
            listing.add_folder(images, objects("s3://bucket/masks", count, ".png"), prefix="images/")
        else:
            write_list(scratch / "pairs.csv", count)
            add_list(listing, f"{scratch}/pairs.csv")
        listing.assign_splits(DataSection(split="group", val_fraction=0.2, test_fraction=0.1), 0)
        terms = Terms(kind="dataset", settings={}, facts={}, summed=DATASET_SUMMED, shard_rows=512, unit_rows=64)
        summary = listing.summary()
        plan = create_plan(f"{scratch}/dataset", listing.rows(), terms, notes=summary)
    assert (plan.num_rows, summary["unpaired_masks"]) == (count, 0)
    return {"rows": count, "seconds": round(time.perf_counter() - started, 1), "peak_mb": round(peak_mb())}


def write_list(path: Path, count: int) -> None:
    with path.open("w") as file:
        file.write("image,mask\n")
        file.writelines(
            f"{item.uri},masks/{item.key}\n" for item in objects("s3://bucket/images", count, ".jpg", seed=1)
        )


def peak_mb() -> float:
    """Return the peak of this process; what `resource` says starts at the peak of the process that started it."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1024


@pytest.mark.parametrize("source", ["folder", "list"])
def test_ten_times_the_images_take_the_same_memory(source: str) -> None:
    command = [sys.executable, "-m", "tests.faults.test_scale", source, str(FEW), str(MANY)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    few, many = map(json.loads, done.stdout.splitlines())
    sys.stdout.write(f"{source}: {few}, {many}\n")
    assert many["peak_mb"] < MOST_MB
    assert many["peak_mb"] - few["peak_mb"] < MOST_GROWTH_MB


if __name__ == "__main__":
    for number in map(int, sys.argv[2:]):
        with tempfile.TemporaryDirectory() as folder:
            sys.stdout.write(json.dumps(plan_rows(sys.argv[1], number, Path(folder))) + "\n")
