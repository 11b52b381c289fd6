import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from tests.unit.tiny_dataset import list_pairs_of, prepare_here
from unet_ray.config import Config
from unet_ray.config_training import ClassWeights, LossSection
from unet_ray.datasets.prepared import open_dataset
from unet_ray.datasets.stats import count_rows
from unet_ray.documents import pack_document
from unet_ray.errors import ConfigError
from unet_ray.schema import DATASET
from unet_ray.train.run import class_weights


def rows_of(*colours: tuple[int, int, int], height: int = 10, width: int = 20) -> pa.Table:
    """Return rows of images of one colour each, whose pixels are all of class 1 of 2."""
    pixels = height * width
    return pa.Table.from_pylist(
        [
            {
                "row_id": number,
                "image_id": str(number),
                "group": "",
                "split": "train",
                "status": "ok",
                "height": height,
                "width": width,
                "class_pixels": [0, pixels],
                "ignored_pixels": 0,
                "channel_sum": [pixels * value for value in colour],
                "channel_square_sum": [pixels * value**2 for value in colour],
            }
            for number, colour in enumerate(colours)
        ],
        schema=DATASET,
    )


def test_statistics_are_those_of_the_pixels(pairs_folder: Path, tmp_path: Path) -> None:
    stats = prepare_here(f"{tmp_path}/dataset", list_pairs_of(pairs_folder))
    left = [np.asarray(Image.open(path)) for path in sorted((pairs_folder / "images/left").iterdir())]
    flat = np.concatenate([image.reshape(-1, 3) for image in left]).astype(float)
    assert stats["mean"] == pytest.approx(flat.mean(axis=0).tolist(), rel=1e-12)
    assert stats["std"] == pytest.approx(flat.std(axis=0).tolist(), rel=1e-12)
    assert stats["classes"] == ["sky", "road", "car"]
    pixels = sum(image.shape[0] * image.shape[1] for image in left)
    ignored, cars = 2 * (28 + 10 * 24), sum(range(11))
    roads = pixels - ignored - cars
    luma = [float((image.reshape(-1, 3).mean(axis=0) * (0.299, 0.587, 0.114)).sum()) for image in left]
    assert stats["splits"]["train"] == {
        "rows": 11,
        "ok": 11,
        "errors": Counter(),
        "sizes": {"16x28": 1, "16x24": 10},
        "brightness": np.histogram(luma, 32, (0, 256))[0].tolist(),
        "ignored_pixels": ignored,
        "class_pixels": [0, roads, cars],
        "class_images": [0, 11, 10],
        "class_image_pixels": [0, pixels, pixels - 16 * 28],
        "class_shares": [0, roads / (roads + cars), cars / (roads + cars)],
    }
    frequencies = roads / pixels, cars / (pixels - 16 * 28)
    median = sum(frequencies) / 2
    assert stats["median_frequency_weights"] == [None, *(median / frequency for frequency in frequencies)]
    val = stats["splits"]["val"]
    assert (val["rows"], val["ok"], sum(val["brightness"])) == (11, 9, 9)
    assert val["errors"] == {"truncated": 1, "missing_mask": 1}
    assert val["class_pixels"][2] == cars - 3 - 5


def test_statistics_are_json_and_carry_what_the_listing_found(pairs_folder: Path, tmp_path: Path) -> None:
    stats = prepare_here(f"{tmp_path}/dataset", list_pairs_of(pairs_folder))
    assert stats["input"] == {"images": 22}
    stored = json.loads((tmp_path / "dataset/stats.json").read_bytes())
    assert stored.pop("sha256")
    assert stored == stats
    assert pack_document(stored) == (tmp_path / "dataset/stats.json").read_bytes()


def test_without_training_pairs_there_is_no_mean_and_no_weight(pairs_folder: Path, tmp_path: Path) -> None:
    rows = [row | {"split": "test"} for row in list_pairs_of(pairs_folder)]
    stats = prepare_here(f"{tmp_path}/dataset", rows)
    assert (stats["mean"], stats["std"], stats["median_frequency_weights"]) == (None, None, [None] * 3)
    assert stats["splits"]["test"]["ok"] == 20


def test_a_split_without_a_usable_pair_has_no_shares(pairs_folder: Path, tmp_path: Path) -> None:
    cut, without_mask = (list_pairs_of(pairs_folder)[11 + number] for number in (3, 5))
    rows = [*list_pairs_of(pairs_folder)[:8], cut | {"split": "test"}, without_mask | {"split": "test"}]
    test = prepare_here(f"{tmp_path}/dataset", rows)["splits"]["test"]
    assert (test["rows"], test["ok"], test["class_shares"]) == (2, 0, [None] * 3)
    assert (test["ignored_pixels"], test["sizes"]) == (0, {})


@pytest.mark.parametrize(
    ("colour", "expected"),
    [((0, 0, 0), 0), ((255, 255, 255), 31), ((8, 8, 8), 1), ((7, 8, 8), 0), ((255, 0, 0), 9), ((0, 0, 255), 3)],
)
def test_brightness_is_the_luma_in_bins_of_eight(colour: tuple[int, int, int], expected: int) -> None:
    assert np.flatnonzero(count_rows(rows_of(colour), 2)["brightness"]).tolist() == [expected]


def test_counts_of_two_tables_add_up_to_those_of_both() -> None:
    rows = rows_of((0, 0, 0), (255, 255, 255), (1, 2, 3), (200, 100, 50), (9, 9, 9))
    first, second, both = (count_rows(part, 2) for part in (rows[:2], rows[2:], rows))
    added = {name: first[name] + second[name] for name in first}
    assert {name: np.asarray(value).tolist() for name, value in added.items()} == {
        name: np.asarray(value).tolist() for name, value in both.items()
    }


def test_sums_of_very_many_pixels_do_not_overflow() -> None:
    bright: dict[str, Any] = count_rows(rows_of((255, 255, 255), height=8000, width=8000), 2)
    total = bright["channel_square_sum"] * 10**7  # as many rows
    assert total.tolist() == [255**2 * 64 * 10**13] * 3
    assert total[0] > 2**63


@pytest.mark.parametrize(("wanted", "power"), [("median", 1), ("sqrt", 0.5)])
def test_training_weighs_classes_by_these_statistics(dataset_uri: str, wanted: ClassWeights, power: float) -> None:
    prepared = open_dataset(dataset_uri)
    _, road, car = prepared.stats["median_frequency_weights"]
    config = Config(loss=LossSection(class_weights=wanted))
    assert class_weights(config, prepared) == (0.0, road**power, car**power)


def test_without_class_weights_all_weigh_one_and_given_ones_must_be_one_per_class(dataset_uri: str) -> None:
    prepared = open_dataset(dataset_uri)
    assert class_weights(Config(loss=LossSection(class_weights="none")), prepared) == (1, 1, 1)
    assert class_weights(Config(loss=LossSection(class_weights=(0, 2, 3))), prepared) == (0, 2, 3)
    with pytest.raises(ConfigError, match=r"^loss\.class_weights: must hold a number per class, got 2 for 3 classes$"):
        class_weights(Config(loss=LossSection(class_weights=(1, 2))), prepared)
