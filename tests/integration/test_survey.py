"""The survey of masks on small inputs with a fault of each kind, and what it suggests, prepared."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from tests.unit.image_files import blobs, encode
from unet_ray import prepare, storage
from unet_ray.config import Config
from unet_ray.survey import run as survey
from unet_ray.table.read import open_table

pytestmark = pytest.mark.usefixtures("ray_cluster")

SIZE = 16, 24


def draw(seed: int) -> NDArray[np.uint8]:
    """Return an image that looks like no other."""
    grey = np.random.default_rng(seed).integers(0, 256, (8, 12), dtype=np.uint8)
    return np.repeat(np.kron(grey, np.ones((2, 2), np.uint8))[:, :, None], 3, axis=2)


def half_and_half() -> NDArray[np.uint8]:
    """Return a mask of sky over road."""
    mask = np.zeros(SIZE, np.uint8)
    mask[8:] = 1
    return mask


def write_pair(root: Path, split: str, number: int, seed: int, mask: NDArray[np.uint8] | None) -> None:
    storage.write(f"{root}/{split}/{number}.png", encode(draw(seed), "PNG"))
    if mask is not None:
        storage.write(f"{root}/{split}annot/{number}.png", encode(mask, "PNG"))


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    """Ten images to train on and two to validate, with a fault of each kind."""
    root = tmp_path / "input"
    for number in range(6):
        mask = half_and_half()
        mask[0, : 4 * (number < 2)] = 2
        mask[1, : 3 * (number == 5)] = 255
        write_pair(root, "train", number, number, mask)
    unknown = half_and_half()
    unknown[0, :4] = 9
    write_pair(root, "train", 6, 6, unknown)
    write_pair(root, "train", 7, 7, half_and_half()[:12])
    write_pair(root, "train", 8, 8, None)
    write_pair(root, "train", 9, 9, half_and_half())
    cut = root / "train/9.png"
    cut.write_bytes(cut.read_bytes()[:-40])
    storage.write(f"{root}/trainannot/orphan.png", encode(half_and_half(), "PNG"))
    write_pair(root, "val", 0, 3, half_and_half())
    write_pair(root, "val", 1, 10, half_and_half())
    return root


def test_every_fault_of_an_input_is_found_and_counted(
    make_config: Callable[..., Config], faulty: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config(
        data__layout="camvid", data__split="lists", data__root=str(faulty), labels__classes="[sky, road, car]"
    )
    result = survey.run(config)
    found = json.loads(storage.read_bytes(result.report))
    assert (result.images, result.masks, result.problems) == (12, 9, len(found["problems"]))
    assert {fault["code"]: (fault["images"], fault["examples"][0][0]) for fault in found["faults"]} == {
        "mask_size_mismatch": (1, "train/7.png"),
        "missing_mask": (1, "train/8.png"),
        "truncated": (1, "train/9.png"),
    }
    assert (found["unknown"]["images"], found["unknown"]["examples"]) == (1, [["train/6.png", "9 (4 px)"]])
    assert found["listing"]["unpaired_masks"] == 1
    assert found["listing"]["unpaired_examples"] == [f"{faulty}/trainannot/orphan.png"]

    half = 8 * 24
    values = {row["value"]: (row["class_name"], row["pixels"], row["images"]) for row in found["values"]}
    assert values == {
        0: ("sky", 9 * half - 8 - 3 - 4, 9),
        1: ("road", 9 * half, 9),
        2: ("car", 8, 2),
        9: (None, 4, 1),
        255: ("ignored", 3, 1),
    }
    assert found["values_exact"]
    train, val = found["splits"]
    assert train == {
        "split": "train", "images": 10, "masks": 7, "ignored_pixels": 3, "unknown_pixels": 4, "missing_classes": [],
    }  # fmt: skip
    assert val["missing_classes"] == ["car"]
    sky, road, car = found["classes"]
    assert (sky["pixels"], road["images"]) == ({"train": 7 * half - 15, "val": 2 * half}, {"train": 7, "val": 2})
    frequencies = [(7 * half - 15) / (14 * half), 0.5, 8 / (4 * half)]
    assert [row["weight"] for row in (sky, road, car)] == [
        pytest.approx(sorted(frequencies)[1] / frequency) for frequency in frequencies
    ]
    [leak] = found["leaks"]
    assert (leak["split"], leak["other"], leak["twins"], leak["images"]) == ("val", "train", 1, 2)
    assert leak["examples"] == [["val/0.png", "train/3.png", 0]]
    assert found["suggestion"][0] == {"classes": ["sky", "road", "car"], "scheme": "ids", "ignore_ids": [9, 255]}

    shown = capsys.readouterr().err
    assert "- val has no pixel of car" in shown
    assert "- 1 of 2 val images have a near duplicate in train" in shown
    page = storage.read_bytes(result.page).decode()
    assert page.count("<img") == 9
    assert {item.key for item in storage.list_objects(f"{config.run_uri}/labels")} == {"report.json", "index.html"}


def test_the_labels_suggested_for_colours_in_jpegs_give_every_pixel_a_class(
    make_config: Callable[..., Config], tmp_path: Path, s3_bucket: str
) -> None:
    colours = np.array([(0, 0, 0), (250, 40, 40), (40, 200, 60), (30, 60, 240)], np.uint8)
    for number in range(12):
        image, mask = np.kron(draw(number), np.ones((8, 8, 1), np.uint8)), blobs(4, 128, 192, number)
        storage.write(f"{tmp_path}/input/images/{number}.png", encode(image, "PNG"))
        storage.write(f"{tmp_path}/input/masks/{number}.jpg", encode(colours[mask], "JPEG", quality=85))
    changes = {
        "run__storage": s3_bucket,
        "data__layout": "folder",
        "data__split": "hash",
        "data__root": f"{tmp_path}/input",
    }
    result = survey.run(make_config(**changes))
    found = json.loads(storage.read_bytes(f"{s3_bucket}/run/labels/report.json"))
    assert (result.images, result.masks, found["forms"]) == (12, 12, {"colours": 12})
    labels = yaml.safe_load(result.suggestion)["labels"]
    np.testing.assert_allclose(sorted(labels["palette"]), sorted(colours.tolist()), atol=3)
    purity = {row[0]: row[1] for row in found["purity"]}
    assert purity["palette, within 40"] > 0.85 > 0.5 > purity["channel"]

    typed = {f"labels__{key}": json.dumps(value) for key, value in labels.items()}
    config = make_config(**changes, **typed)
    assert prepare.run(config).ok == 12
    rows = open_table(config.dataset_uri).read(["class_pixels", "ignored_pixels"]).to_pylist()
    assert sum(row["ignored_pixels"] for row in rows) == 0
    assert min(np.sum([row["class_pixels"] for row in rows], axis=0)) > 0
    assert survey.run(config).problems == 0
