import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.unit.image_files import encode, gradient
from unet_ray import storage
from unet_ray.config import Config
from unet_ray.config_file import load_config, parse_config
from unet_ray.config_input import DataSection, ImagesSection, LabelsSection
from unet_ray.datasets.frames import fetch_pair
from unet_ray.datasets.layouts import labels_of, list_inputs
from unet_ray.datasets.listing import Row
from unet_ray.errors import ConfigError, DatasetError, ImageError
from unet_ray.images.encode import decode_stored_mask
from unet_ray.labels.scheme import make_class_map
from unet_ray.prepare import check_pairs
from unet_ray.storage import ObjectInfo

ROAD, CAR, BLACK = (128, 64, 128), (0, 0, 142), (0, 0, 0)


def touch(root: Path, *keys: str) -> None:
    for key in keys:
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).write_bytes(b"x")


def pairs_of(root: Path, **data: Any) -> Config:
    return Config(data=DataSection(layout="pairs", root=str(root), **({"split": "lists"} | data)))


def list_pairs(config: Config) -> tuple[list[Row], dict[str, Any]]:
    with list_inputs(config) as listing:
        return list(listing.rows()), listing.summary()


def masks_of(config: Config, **policy: Any) -> list[NDArray[np.uint8] | str]:
    """Prepare the pairs; return the class ids of each, or why it was quarantined."""
    rows = [row | {"row_id": number} for number, row in enumerate(list_pairs(config)[0])]
    classes = make_class_map(labels_of(config))
    checked = check_pairs(rows, classes=classes, policy=ImagesSection(**policy), resize=None)
    return [
        row["error_code"] or decode_stored_mask(row["mask"], row["height"], row["width"], "png")
        for row in checked.to_pylist()
    ]


def draw_mask() -> NDArray[np.uint8]:
    """Return a mask of three colours of Cityscapes: cars above a road, and black below."""
    mask = np.full((32, 48, 3), ROAD, np.uint8)
    mask[:16] = CAR
    mask[24:] = BLACK
    return mask


def write(path: Path, pixels: NDArray[np.uint8], format: str, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(pixels, format, **options))


def test_pairs_are_listed_in_the_order_of_their_numbers_with_the_splits_of_their_folders(tmp_path: Path) -> None:
    touch(tmp_path, *(f"train/{number}.jpg" for number in (1, 2, 10, 100)), "val/1.jpg", "val/2.jpg", "readme.txt")
    rows, found = list_pairs(pairs_of(tmp_path))
    assert [(row["image_id"], row["split"], row["group"], row["frame"]) for row in rows] == [
        *((f"train/{number}.jpg", "train", "", number) for number in (1, 2, 10, 100)),
        *((f"val/{number}.jpg", "val", "", number) for number in (1, 2)),
    ]
    for row in rows:
        assert row["image_uri"] == f"{tmp_path}/{row['image_id']}"
        assert [row[f"mask_{fact}"] for fact in ("uri", "etag", "bytes")] == [
            row[f"image_{fact}"] for fact in ("uri", "etag", "bytes")
        ]
    assert (found["images"], found["unpaired_masks"], found["repeated_images"]) == (6, 0, 0)


def test_pairs_in_the_root_itself_are_split_as_configured(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{number}.jpg" for number in range(100)))
    rows, _ = list_pairs(pairs_of(tmp_path, split="hash", val_fraction=0.3))
    assert [row["frame"] for row in rows] == list(range(100))
    assert Counter(row["split"] for row in rows).keys() == {"train", "val"}


@pytest.mark.parametrize("above", ["", "cityscapes_data/"])
def test_the_copy_inside_the_published_set_is_left_out_and_told_of(
    tmp_path: Path, above: str, caplog: pytest.LogCaptureFixture
) -> None:
    names = [*(f"train/{number}.jpg" for number in range(1, 6)), "val/1.jpg", "val/2.jpg"]
    touch(tmp_path, *(f"{above}{name}" for name in names), *(f"{above}cityscapes_data/{name}" for name in names))
    with caplog.at_level(logging.WARNING):
        rows, found = list_pairs(pairs_of(tmp_path))
    assert [row["image_id"] for row in rows] == [f"{above}{name}" for name in names]
    assert (found["images"], found["repeated_images"]) == (7, 7)
    copy = f"{tmp_path}/{above}cityscapes_data"
    assert caplog.messages == [f"{copy} holds the same pairs again: its 7 images are left out"]


def test_a_root_above_the_pairs_is_enough(tmp_path: Path) -> None:
    touch(tmp_path, "cityscapes_data/cityscapes_data/train/1.jpg", "cityscapes_data/cityscapes_data/val/1.jpg")
    rows, found = list_pairs(pairs_of(tmp_path))
    assert [row["image_id"] for row in rows] == [
        "cityscapes_data/cityscapes_data/train/1.jpg",
        "cityscapes_data/cityscapes_data/val/1.jpg",
    ]
    assert found["repeated_images"] == 0


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        (("train/1.png", "trainannot/1.png"), "trainannot/"),
        (("images/1.png", "masks/1.png"), "images/, masks/"),
        (("train/image/1.png", "train/label/1.png"), "train/image/, train/label/"),
        (("train/1.jpg", "1.jpg"), "./"),
        (("a/train/1.jpg", "b/train/1.jpg", "b/train/2.jpg"), "b/train/"),
    ],
)
def test_images_beside_the_pairs_are_refused(tmp_path: Path, keys: tuple[str, ...], named: str) -> None:
    touch(tmp_path, *keys)
    with pytest.raises(DatasetError) as caught:
        list_pairs(pairs_of(tmp_path))
    assert str(caught.value).startswith(
        f"{tmp_path}: pairs lie in train/, val/ and test/, or all in data.root itself; images were found in {named} too"
    )


def test_a_root_without_pairs_or_without_a_folder_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "readme.txt")
    with pytest.raises(DatasetError, match=r"0 images under .*: it holds 1 other objects"):
        list_pairs(pairs_of(tmp_path))
    with pytest.raises(DatasetError, match=r"none: no such folder; check data\.root"):
        list_pairs(pairs_of(tmp_path / "none"))


def test_the_pairs_of_cityscapes_have_their_city_as_group(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = {"train": [*range(1, 2976)], "val": [*range(1, 501)]}

    def list_objects(root: str) -> Iterator[ObjectInfo]:
        for split, numbers in stored.items():
            for uri in (f"/pairs/{split}/{number}.jpg" for number in numbers):
                if uri.startswith(f"{root}/"):
                    yield ObjectInfo(key=uri.removeprefix(f"{root}/"), uri=uri, size_bytes=1, etag="e")

    monkeypatch.setattr(storage, "list_objects", list_objects)
    groups = {row["image_id"]: row["group"] for row in list_pairs(pairs_of(Path("/pairs")))[0]}
    first_and_last = {
        "aachen": (1, 174), "bremen": (271, 586), "erfurt": (1047, 1155), "strasbourg": (1912, 2276),
        "tubingen": (2473, 2616), "zurich": (2854, 2975),
    }  # fmt: skip
    for city, numbers in first_and_last.items():
        assert [groups[f"train/{number}.jpg"] for number in numbers] == [city, city]
    assert [groups[f"val/{number}.jpg"] for number in (1, 267, 268, 326, 327, 500)] == [
        *("frankfurt", "frankfurt", "lindau", "lindau", "munster", "munster")
    ]
    assert (len(groups), len(set(groups.values()))) == (3475, 21)
    stored["val"][-1] = 501
    assert {row["group"] for row in list_pairs(pairs_of(Path("/pairs")))[0]} == {""}


@pytest.mark.parametrize(("photo", "cut"), [("left", None), ("right", None), ("left", 48), ("right", 48)])
def test_masks_of_colours_become_class_ids_whichever_side_they_are_on(
    tmp_path: Path, photo: str, cut: int | None
) -> None:
    halves = [gradient(32, 48), draw_mask()]
    write(tmp_path / "train/1.png", np.hstack(halves if photo == "left" else halves[::-1]), "PNG")
    config = pairs_of(tmp_path)
    [mask] = masks_of(config, photo=photo, cut=cut)
    names = make_class_map(labels_of(config)).classes
    expected = np.full((32, 48), names.index("road"), np.uint8)
    expected[:16] = names.index("car")
    expected[24:] = 255
    assert np.array_equal(mask, expected)


def test_masks_that_jpeg_blurred_keep_nearly_all_their_classes(tmp_path: Path) -> None:
    write(tmp_path / "train/1.jpg", np.hstack([gradient(32, 48), draw_mask()]), "JPEG", quality=75)
    [mask] = masks_of(pairs_of(tmp_path))
    write(tmp_path / "exact/train/1.png", np.hstack([gradient(32, 48), draw_mask()]), "PNG")
    [exact] = masks_of(pairs_of(tmp_path / "exact"))
    assert np.mean(np.asarray(mask) == np.asarray(exact)) > 0.95


def test_a_file_without_two_equal_halves_is_quarantined(tmp_path: Path) -> None:
    write(tmp_path / "train/1.png", gradient(32, 95), "PNG")
    write(tmp_path / "train/2.png", gradient(32, 40), "PNG")
    assert masks_of(pairs_of(tmp_path), cut=48) == ["mask_size_mismatch", "too_narrow"]


def test_a_model_of_ids_cannot_be_scored_on_masks_of_colours(tmp_path: Path) -> None:
    write(tmp_path / "train/1.png", np.hstack([gradient(32, 48), draw_mask()]), "PNG")
    [row] = list_pairs(pairs_of(tmp_path))[0]
    with pytest.raises(
        ImageError, match=r"colour_mask: .*train/1\.png: half of a file is colours, not class ids; labels"
    ):
        fetch_pair(row, make_class_map(LabelsSection(preset="cityscapes_19")), ImagesSection())


@pytest.mark.parametrize(("name", "num_classes", "read"), [("pairs_8", 8, "colour"), ("pairs_bins13", 13, "bins")])
def test_the_shipped_configurations_read_pairs(name: str, num_classes: int, read: str) -> None:
    path = Path(__file__).parents[2] / f"jobs/configs/{name}.yaml"
    classes = make_class_map(labels_of(load_config(str(path))))
    assert (classes.num_classes, classes.recovery.read) == (num_classes, read)


@pytest.mark.parametrize("scheme", ["ids", "channel"])
def test_a_scheme_of_ids_is_refused_at_once(scheme: str) -> None:
    with pytest.raises(
        ConfigError, match=r"labels\.scheme: must be colours, bins or kmeans where data\.layout is pair"
    ):
        parse_config({"data": {"layout": "pairs"}, "labels": {"scheme": scheme}}, {}, "test")


def test_bins_take_neither_the_classes_nor_the_filter_of_the_colours() -> None:
    labels = labels_of(Config(data=DataSection(layout="pairs"), labels=LabelsSection(scheme="bins")))
    classes = make_class_map(labels)
    assert (classes.num_classes, classes.recovery.mode_filter, classes.recovery.read) == (13, 1, "bins")


def test_clusters_are_named_by_the_classes_but_not_filtered() -> None:
    labels = labels_of(Config(data=DataSection(layout="pairs"), labels=LabelsSection(scheme="kmeans")))
    assert (labels.preset, labels.mode_filter, labels.max_distance) == ("cityscapes_19", None, None)
