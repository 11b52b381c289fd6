import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from tests.unit.image_files import POLICY, encode, gradient
from unet_ray import pipeline, storage
from unet_ray.clusters import choose, draw_pixels, fit_centroids
from unet_ray.errors import ConfigError, DatasetError
from unet_ray.labels.kmeans import fit

COLOURS = np.array([(0, 0, 0), (0, 0, 142), (70, 70, 70), (107, 142, 35), (128, 64, 128)], np.uint8)


def draw_mask(seed: int) -> NDArray[np.uint8]:
    """Return a ``(32, 48, 3)`` mask of stripes of the colours."""
    stripes = np.random.default_rng(seed).integers(len(COLOURS), size=(4, 6))
    return COLOURS[np.kron(stripes, np.ones((8, 8), np.int64))]


def write_rows(root: Path, count: int, format: str = "PNG") -> list[dict[str, Any]]:
    """Store pairs and return their planned rows; every fifth validates."""
    rows = []
    for number in range(count):
        uris = f"{root}/{number}.png", f"{root}/{number}_mask"
        storage.write(uris[0], encode(gradient(32, 48), "PNG"))
        storage.write(uris[1], encode(draw_mask(number), format))
        split = "val" if number % 5 == 4 else "train"
        rows.append({"image_id": f"{number}.png", "image_uri": uris[0], "mask_uri": uris[1], "split": split})
    return rows


@pytest.fixture
def any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the cluster by a loop that finishes items in an order of its own."""

    def collect(items: Sequence[Any], items_per_task: int, stage: Callable[[Any], pa.Table]) -> Iterator[Any]:
        for item in random.sample(items, len(items)):
            yield from stage(item).to_pylist()

    monkeypatch.setattr(pipeline, "collect", collect)


@pytest.mark.parametrize("seed", range(5))
def test_as_many_clusters_as_colours_are_the_colours_in_order_whatever_the_seed(seed: int) -> None:
    samples = np.random.default_rng(seed).permutation(np.repeat(COLOURS, (500, 3, 40, 1, 200), axis=0))
    assert fit(samples, 5, seed).tolist() == COLOURS.tolist()


def test_blurred_colours_are_found_again_within_a_few_units() -> None:
    noise = np.random.default_rng(0).normal(0, 5, (2000, 3))
    samples = np.clip(np.repeat(COLOURS, 400, axis=0) + noise, 0, 255).astype(np.uint8)
    centroids = fit(samples, 5, 0)
    assert np.abs(centroids.astype(int) - COLOURS).max() <= 5
    assert centroids.dtype == np.uint8


def test_a_fit_repeats_to_the_bit_and_leaves_the_threads_of_others() -> None:
    samples = np.random.default_rng(0).integers(256, size=(3000, 3), dtype=np.uint8)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(2)
    first = fit(samples, 13, 7)
    assert cv2.getNumThreads() == 2
    cv2.setNumThreads(1)
    assert np.array_equal(first, fit(samples, 13, 7))
    cv2.setNumThreads(threads)


def test_more_clusters_than_colours_are_refused_with_both_numbers() -> None:
    samples = np.repeat(COLOURS, 9, axis=0)
    with pytest.raises(ConfigError, match=r"^labels\.clusters: must be at most 5, the colours in .*, got 6$"):
        fit(samples, 6, 0)


def test_masks_are_chosen_from_the_train_split_in_plan_order() -> None:
    rows = [
        {"image_id": str(number), "mask_uri": "m" if number % 3 else None, "split": "train" if number % 2 else "val"}
        for number in range(60)
    ]
    assert [place for place, _ in choose(iter(rows), 0)] == [n for n in range(60) if n % 2 and n % 3]


def test_of_many_masks_a_thousand_are_chosen_by_the_seed_and_stay_chosen_when_others_go() -> None:
    rows = [{"image_id": str(number), "mask_uri": "m", "split": "train"} for number in range(3000)]
    ids = [row["image_id"] for _, row in choose(rows, 0)]
    assert len(ids) == 1000
    assert ids == sorted(ids, key=int)
    assert set(ids) != {row["image_id"] for _, row in choose(rows, 1)}
    fewer = [row for row in rows if int(row["image_id"]) % 10]
    assert {i for i in ids if int(i) % 10} < {row["image_id"] for _, row in choose(fewer, 0)}


def test_as_many_pixels_are_drawn_of_every_mask_and_by_its_name_alone() -> None:
    small, large = gradient(2, 2), gradient(60, 80)
    assert draw_pixels(small, "a", 0).shape == draw_pixels(large, "a", 0).shape == (256, 3)
    assert np.array_equal(draw_pixels(large, "a", 0), draw_pixels(large, "a", 0))
    assert not np.array_equal(draw_pixels(large, "a", 0), draw_pixels(large, "b", 0))
    assert not np.array_equal(draw_pixels(large, "a", 0), draw_pixels(large, "a", 1))


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
@pytest.mark.usefixtures("any_order")
def test_centroids_do_not_depend_on_the_order_in_which_masks_are_done(tmp_path: Path, format: str) -> None:
    rows = write_rows(tmp_path, 12, format)
    found = {fit_centroids(rows, 5, policy=POLICY, seed=3) for _ in range(4)}
    assert len(found) == 1
    [centroids] = found
    assert np.abs(np.array(centroids) - COLOURS).max() <= (0 if format == "PNG" else 20)
    assert all(type(value) is int for centroid in centroids for value in centroid)


@pytest.mark.usefixtures("any_order")
def test_halves_of_one_file_are_cut_before_they_are_sampled(tmp_path: Path) -> None:
    rows = []
    for number in range(6):
        uri = f"{tmp_path}/{number}.png"
        storage.write(uri, encode(np.hstack([gradient(32, 48), draw_mask(number)]), "PNG"))
        rows.append({"image_id": f"{number}.png", "image_uri": uri, "mask_uri": uri, "split": "train"})
    centroids = fit_centroids(rows, 5, policy=POLICY, seed=0)
    assert centroids == tuple(map(tuple, COLOURS.tolist()))


@pytest.mark.usefixtures("any_order")
def test_pairs_that_cannot_be_used_are_left_out_of_the_sample(tmp_path: Path) -> None:
    rows = write_rows(tmp_path, 12)
    storage.write(rows[0]["mask_uri"], b"")
    storage.write(rows[1]["mask_uri"], encode(np.full((32, 40, 3), 250, np.uint8), "PNG"))
    Path(rows[2]["mask_uri"]).unlink()
    assert fit_centroids(rows, 5, policy=POLICY, seed=0) == tuple(map(tuple, COLOURS.tolist()))


@pytest.mark.usefixtures("any_order")
def test_without_a_single_usable_mask_the_first_reason_is_named(tmp_path: Path) -> None:
    rows = write_rows(tmp_path, 3)
    for row in rows:
        storage.write(row["mask_uri"], b"")
    with pytest.raises(DatasetError) as caught:
        fit_centroids(rows, 5, policy=POLICY, seed=0)
    assert str(caught.value) == (
        "labels.scheme: kmeans needs masks in the train split, of 3 looked at none can be used, the first because of "
        f"empty_object: mask {rows[0]['mask_uri']}: the file has 0 bytes"
    )


@pytest.mark.usefixtures("any_order")
def test_a_train_split_without_masks_is_refused() -> None:
    rows = [{"image_id": "a", "image_uri": "a", "mask_uri": None, "split": "train"}]
    with pytest.raises(DatasetError, match=r"of 0 looked at none can be used$"):
        fit_centroids(rows, 5, policy=POLICY, seed=0)
