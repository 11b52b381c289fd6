"""Planning takes the same memory however many images are listed, wherever they lie and however they are split.

``python -m tests.faults.test_scale folder ratio 1000 1000000`` prints what so many rows take, one after the other: the
seconds, the microseconds per row, and the peak of memory, which is the process's so far.
"""

import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

import unet_ray.prepare  # noqa: F401  # what the driver of `prepare` holds anyway
from tests.faults.memory_s3 import Stored
from tests.faults.store import FaultStore
from unet_ray.config_input import DataSection
from unet_ray.datasets.inputs import add_folder, add_list
from unet_ray.datasets.listing import Listing
from unet_ray.schema import DATASET_SUMMED
from unet_ray.storage import ObjectInfo
from unet_ray.table.plan import Terms, create_plan

PER_SEQUENCE = 100
COUNTS = (1000, 10_000, 100_000)
STORE_COUNTS = COUNTS[:2]  # the store of these tests goes through all its keys for every page
MOST_MB, MOST_GROWTH_MB = 500, 100
"""The cache of the listing, and the buffer of a sort, are 32 MB each: 1,000 rows do not fill them."""

SPLITS: Mapping[str, DataSection] = {
    "hash": DataSection(test_fraction=0.1),
    "ratio": DataSection(split="ratio", test_fraction=0.1),
    "group": DataSection(split="group", test_fraction=0.1, group_pattern="(.*)frame_"),
    "contiguous": DataSection(split="contiguous", test_fraction=0.1),
    "folds": DataSection(split="ratio", test_fraction=0.1, folds=5, fold=2),
}


def objects(root: str, count: int, suffix: str, seed: int | None = None) -> Iterator[ObjectInfo]:
    """Yield what a store lists: every frame of many videos; with a seed, each video in the order of a disk."""
    for start in range(0, count, PER_SEQUENCE):
        frames = list(range(min(PER_SEQUENCE, count - start)))
        if seed is not None:
            random.Random(seed + start).shuffle(frames)
        for frame in frames:
            key = f"camera_{start // PER_SEQUENCE // 5:05d}/{start // PER_SEQUENCE % 5}/frame_{frame:06d}{suffix}"
            yield ObjectInfo(key=key, uri=f"{root}/{key}", size_bytes=100_000 + frame, etag=f"{start + frame:032x}")


def from_folder(listing: Listing, count: int, scratch: Path) -> None:
    """Add images and masks as a store lists them, without the time that the store takes."""
    images = objects("s3://bucket/images", count, ".jpg", seed=1)
    listing.add_folder(images, objects("s3://bucket/masks", count, ".png"), prefix="images/")


def from_list(listing: Listing, count: int, scratch: Path) -> None:
    """Add the rows of a CSV file."""
    with (scratch / "pairs.csv").open("w") as file:
        file.write("image,mask\n")
        file.writelines(
            f"{item.uri},masks/{item.key}\n" for item in objects("s3://bucket/images", count, ".jpg", seed=1)
        )
    add_list(listing, f"{scratch}/pairs.csv")


def from_pairs(listing: Listing, count: int, scratch: Path) -> None:
    """Add files with numbers for names that hold an image and its mask, listed in no order."""

    def files() -> Iterator[ObjectInfo]:
        for turn in range(count):
            name = f"{turn * 7919 % count + 1}.jpg"  # 7919 is prime: every number once, while count is a power of ten
            yield ObjectInfo(key=name, uri=f"s3://bucket/train/{name}", size_bytes=100_000, etag=f"{turn:032x}")

    listing.add_folder(files(), files(), prefix="train/")


def from_store(listing: Listing, count: int, scratch: Path) -> None:
    """Add what `fill_store` put in a store."""
    add_folder(listing, f"s3://bucket/{count}/images", f"s3://bucket/{count}/masks")


SOURCES: Mapping[str, Callable[[Listing, int, Path], None]] = {
    "folder": from_folder,
    "list": from_list,
    "pairs": from_pairs,
    "store": from_store,
}


def plan_rows(source: str, split: str, count: int, scratch: Path) -> dict[str, float]:
    """List so many images, split them, store their plan; return the rows, the time and the peak of memory."""
    data = SPLITS[split]
    with Listing() as listing:
        started = time.perf_counter()
        SOURCES[source](listing, count, scratch)
        listed = time.perf_counter()
        if data.group_pattern:
            listing.assign_groups(data.group_pattern)
        listing.assign_splits(data, 0)
        divided = time.perf_counter()
        terms = Terms(kind="dataset", settings={}, facts={}, summed=DATASET_SUMMED, shard_rows=512, unit_rows=64)
        summary = listing.summary()
        plan = create_plan(f"{scratch}/dataset", listing.rows(), terms, notes=summary)
        ended = time.perf_counter()
    assert (plan.num_rows, summary["unpaired_masks"]) == (count, 0)
    assert sum(listing.splits["rows"].values()) == count
    return {
        "rows": count,
        "seconds": round(ended - started, 1),
        "list_us": round((listed - started) / count * 1e6, 1),
        "split_us": round((divided - listed) / count * 1e6, 1),
        "plan_us": round((ended - divided) / count * 1e6, 1),
        "peak_mb": round(peak_mb()),
    }


def fill_store(store: FaultStore) -> None:
    memory = store.snapshot()
    memory.buckets["bucket"] |= {
        f"{count}/{folder}/{item.key}": Stored(b"", f'"{item.etag}"', "", "")
        for count in STORE_COUNTS
        for folder in ("images", "masks")
        for item in objects("", count, ".png")
    }
    store.restore(memory)


def peak_mb() -> float:
    """Return the peak of this process; what `resource` says starts at the peak of the process that started it."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1024


@pytest.mark.parametrize(
    ("source", "split"),
    [("folder", "ratio"), ("list", "folds"), ("pairs", "contiguous"), ("store", "group")],
)
def test_many_times_the_images_take_the_same_memory(source: str, split: str, store: FaultStore) -> None:
    counts = STORE_COUNTS if source == "store" else COUNTS
    if source == "store":
        fill_store(store)
    command = [sys.executable, "-m", "tests.faults.test_scale", source, split, *map(str, counts)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=Path(__file__).parents[2])
    found = [json.loads(line) for line in done.stdout.splitlines()]
    sys.stdout.writelines(f"{source}, {split}: {line}\n" for line in done.stdout.splitlines())
    assert [one["rows"] for one in found] == list(counts)
    assert found[-1]["peak_mb"] < MOST_MB
    assert found[-1]["peak_mb"] - found[0]["peak_mb"] < MOST_GROWTH_MB


if __name__ == "__main__":
    for number in map(int, sys.argv[3:]):
        with tempfile.TemporaryDirectory() as folder:
            sys.stdout.write(json.dumps(plan_rows(sys.argv[1], sys.argv[2], number, Path(folder))) + "\n")
