"""Pairs of files in a folder, scanned in this process."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.unit.image_files import POLICY, encode, gradient, palette_of
from unet_ray.config_input import LabelsSection
from unet_ray.datasets.inputs import add_folder
from unet_ray.datasets.listing import Listing
from unet_ray.labels.scheme import make_class_map
from unet_ray.survey.findings import diagnose
from unet_ray.survey.scan import Lens, Scan, known_colours, merge, scan_rows
from unet_ray.survey.suggestion import suggest

SECTION = LabelsSection(classes=("sky", "road", "car"))
COLOURS = LabelsSection(classes=("sky", "road"), palette=((10, 20, 30), (200, 0, 0)), scheme="colours", max_distance=5)


def rows_of(root: Path, masks: dict[str, bytes], split: str = "train") -> list[dict[str, Any]]:
    """Write an image for each mask, and list the pairs."""
    for number, (name, data) in enumerate(masks.items()):
        (root / "images").mkdir(exist_ok=True)
        (root / "masks").mkdir(exist_ok=True)
        image = gradient(8, 12)
        image[:, :, 1] = 20 * number
        (root / "images" / f"{Path(name).stem}.png").write_bytes(encode(image, "PNG"))
        (root / "masks" / name).write_bytes(data)
    with Listing() as listing:
        add_folder(listing, f"{root}/images", f"{root}/masks", split=split)
        return [row | {"row_id": row_id, "part_uri": None} for row_id, row in enumerate(listing.rows())]


def lens(labels: LabelsSection | None, sampled_share: float = 1.0) -> Lens:
    classes = None if labels is None else make_class_map(labels)
    return Lens(classes=classes, policy=POLICY, seed=0, sampled_share=sampled_share)


def plain(value: int) -> NDArray[np.uint8]:
    return np.full((8, 12), value, np.uint8)


def painted(*colours: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Return a mask whose first pixels have these colours, and all others the last one."""
    mask = np.full((8, 12, 3), colours[-1], np.uint8)
    mask[0, : len(colours)] = colours
    return mask


def test_scans_add_up_to_the_same_in_any_order_and_survive_the_way_to_the_driver(tmp_path: Path) -> None:
    files = {f"{number}.png": encode(plain(number % 5), "PNG") for number in range(9)}
    rows = rows_of(tmp_path, files)
    whole = scan_rows(rows, lens(SECTION))
    parts = [Scan.from_json(scan_rows([row], lens(SECTION)).to_json()) for row in rows]
    random.Random(0).shuffle(parts)
    assert merge(parts).to_json() == merge([whole]).to_json()
    assert whole.counts["images", "train"] == 9
    assert len(whole.samples) == len(whole.thumbs["train"]) == 9
    assert len(scan_rows(rows, lens(SECTION, 0.5)).samples) in range(1, 9)


def test_a_frame_that_repeats_the_one_before_it_is_noted_within_its_group_only(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, {f"drive_{number}.png": encode(plain(0), "PNG") for number in range(4)})
    (tmp_path / "images/drive_2.png").write_bytes((tmp_path / "images/drive_1.png").read_bytes())
    rows = [row | {"image_etag": None} for row in rows]
    found = scan_rows(rows, lens(SECTION))
    assert found.examples == {"repeated_frame": [(2, "the same picture as the frame before it")]}
    apart = [row | {"group": str(row["row_id"])} for row in rows]
    assert scan_rows(apart, lens(SECTION)).examples == {}


def test_files_of_ids_are_read_as_ids_and_others_as_colours(tmp_path: Path) -> None:
    files = {
        "grey.png": encode(plain(1), "PNG"),
        "palette.png": encode(palette_of(plain(2)), "PNG"),
        "colour.png": encode(painted((1, 2, 3)), "PNG"),
        "lossy.jpg": encode(painted((9, 9, 9)), "JPEG"),
    }
    found = scan_rows(rows_of(tmp_path, files), lens(None))
    assert (found.counts["form", "ids"], found.counts["form", "colours"]) == (2, 2)
    assert found.ids.rows.tolist() == [[1, 96, 1], [2, 96, 1]]
    assert found.colours.pixels == 192
    assert not [key for key in found.counts if key[0] == "error"]


def test_masks_of_colours_are_an_error_for_labels_that_are_ids_and_are_counted_all_the_same(tmp_path: Path) -> None:
    found = scan_rows(rows_of(tmp_path, {"a.png": encode(painted((1, 2, 3)), "PNG")}), lens(SECTION))
    assert found.counts["error", "colour_mask"] == 1
    assert found.colours.rows.tolist() == [[0x030201, 96, 1]]


def test_colours_near_a_known_one_are_of_its_class_and_others_are_unknown(tmp_path: Path) -> None:
    mask = painted((13, 20, 30), (16, 20, 30), (200, 0, 0))
    found = scan_rows(rows_of(tmp_path, {"a.png": encode(mask, "PNG")}), lens(COLOURS))
    counts = {key: count for key, count in found.counts.items() if key[0].endswith("pixels")}
    assert counts == {
        ("unknown_pixels", "train"): 1,
        ("ignored_pixels", "train"): 0,
        ("class_pixels", "train", "0"): 1,
        ("class_pixels", "train", "1"): 94,
        ("class_image_pixels", "train", "0"): 96,
        ("class_image_pixels", "train", "1"): 96,
    }
    assert found.examples["unknown_value"] == [(0, "(16, 20, 30) (1 px)")]
    assert known_colours(make_class_map(COLOURS)) == (0x1E140A, 0x0000C8)


def test_a_photo_beside_its_mask_is_cut_and_the_half_read_as_colours(tmp_path: Path) -> None:
    both = np.concatenate([gradient(8, 12), painted((7, 7, 7))], axis=1)
    row = rows_of(tmp_path, {"a.png": encode(plain(0), "PNG")})[0]
    Path(row["image_uri"]).write_bytes(encode(both, "PNG"))
    found = scan_rows([row | {"mask_uri": row["image_uri"], "image_etag": None}], lens(None))
    assert found.colours.rows.tolist() == [[0x070707, 96, 1]]
    assert found.counts["size", "8x12"] == 1


IDS = [plain(0), plain(1), plain(7)]
KINDS: dict[str, tuple[list[NDArray[np.uint8]], LabelsSection, dict[str, Any]]] = {
    "ids": (IDS, LabelsSection(), {"values": [0, 1, 7], "ignore_ids": []}),
    "ids and a border": ([*IDS, plain(255)], LabelsSection(), {"values": [0, 1, 7], "ignore_ids": [255]}),
    "two values": ([plain(0), plain(255)], LabelsSection(), {"values": [0, 255], "ignore_ids": []}),
    "known ids": ([plain(v) for v in range(12)], LabelsSection(), {"preset": "camvid_11", "scheme": "ids"}),
    "configured": (IDS[:2], SECTION, {"classes": ["sky", "road", "car"]}),
    "configured, far off": (IDS, SECTION, {"classes": ["class_0", "class_1", "class_7"]}),
    "red": (
        [painted((3, 0, 0), (4, 0, 0)), painted((4, 0, 0)), painted((0, 0, 0))],
        LabelsSection(),
        {"scheme": "channel", "channel": "red", "values": [0, 3, 4]},
    ),
    "colours": (
        [painted((1, 2, 3), (4, 5, 6))],
        LabelsSection(),
        {"classes": ["class_0", "class_1"], "palette": [[1, 2, 3], [4, 5, 6]], "scheme": "colours", "max_distance": 0},
    ),
    "known colours": (
        [painted((128, 128, 128), (128, 0, 0)), painted((60, 40, 222), (0, 0, 0))],
        LabelsSection(),
        {"preset": "camvid_11", "scheme": "colours"},
    ),
    "configured colours": (
        [painted((10, 20, 31), (99, 99, 99), (200, 0, 0)) for _ in range(2)],
        COLOURS,
        {"ignore_colours": [], "classes": ["class_0", "class_1", "class_2"]},
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_suggested_labels_are_a_section_that_knows_every_pixel(tmp_path: Path, kind: str) -> None:
    masks, configured, expected = KINDS[kind]
    rows = rows_of(tmp_path, {f"{number}.png": encode(mask, "PNG") for number, mask in enumerate(masks)})
    given = configured if configured.classes else None
    found = scan_rows(rows, lens(given))
    suggestion = suggest(found, configured, make_class_map(given) if given else None)
    assert suggestion is not None
    assert {key: suggestion.labels.get(key, []) for key in expected} == expected
    again = scan_rows(rows, lens(suggestion.section))
    assert sum(count for key, count in again.counts.items() if key[0] == "class_pixels") > 0
    assert not [key for key in again.counts if key[0] in ("unknown_pixels", "error")]


def test_nothing_is_suggested_for_masks_that_cannot_be_read(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, {"a.png": b"<html>"})
    found = scan_rows(rows, lens(None))
    assert suggest(found, LabelsSection(), None) is None
    summary = {"unpaired_masks": 0, "repeated_images": 0}
    told = diagnose(found, summary, LabelsSection(), None, None, None, lambda ids: ["a.png"] * len(ids), seed=0)
    assert told.problems == ["1 of 1 images: not_an_image"]
    assert (told.values, told.purity, told.leaks) == ([], [], [])


def test_groups_in_two_splits_are_told_of(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, {f"{number}.png": encode(plain(number), "PNG") for number in range(3)})
    groups, splits = ("left", "left", "right"), ("train", "val", "val")
    rows = [row | {"group": g, "split": s} for row, g, s in zip(rows, groups, splits, strict=True)]
    summary = {"unpaired_masks": 0, "repeated_images": 0}
    scan = scan_rows(rows, lens(None))
    told = diagnose(scan, summary, LabelsSection(), None, None, None, lambda ids: [str(i) for i in ids], seed=0)
    assert (told.leaks[0].shared_groups, told.leaks[0].images_in_shared_groups) == (1, 1)
    assert "1 val images are of groups that train has images of too" in told.problems
