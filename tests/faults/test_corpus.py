"""Every bad pair becomes a row with its code and a message, every usable one a row with pixels, and none is lost."""

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.faults.corpus import CLASSES, HEIGHT, WIDTH, draw, make_cases, pass_time, write_cases
from tests.unit.listed_files import list_folder
from unet_ray.config_input import ImagesSection, LabelsSection
from unet_ray.datasets.frames import load_frames
from unet_ray.images.decode import decode_plain
from unet_ray.images.encode import decode_stored_mask
from unet_ray.labels.scheme import make_class_map
from unet_ray.prepare import check_pairs
from unet_ray.schema import DATASET_SUMMED
from unet_ray.table.plan import Plan, Terms, create_plan

CASES = make_cases()
CLASS_MAP = make_class_map(LabelsSection(classes=CLASSES))


def plan_of(root: Path) -> Plan:
    rows, found = list_folder(f"{root}/images", f"{root}/masks", split="train")
    assert (found["skipped_objects"], found["unpaired_masks"]) == (0, 0)
    terms = Terms(
        kind="dataset", settings={}, facts=asdict(CLASS_MAP), summed=DATASET_SUMMED, shard_rows=16, unit_rows=16
    )
    return create_plan(f"{root}/dataset", rows, terms, notes=found)


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Give the planned rows of the corpus, whose files have changed since."""
    root = tmp_path_factory.mktemp("corpus")
    write_cases(root, CASES)
    plan = plan_of(root)
    pass_time(root, CASES)
    return [row for unit in plan.units(range(plan.num_shards)) for row in plan.read(unit)]


@pytest.fixture(scope="module")
def prepared(planned: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Give the corpus as `prepare` makes it, by image_id."""
    rows = check_pairs(planned, classes=CLASS_MAP, policy=ImagesSection(), resize=None).to_pylist()
    assert [row["row_id"] for row in rows] == list(range(len(CASES)))
    return {row["image_id"]: row for row in rows}


def test_the_corpus_has_more_than_thirty_kinds_of_bad_pairs() -> None:
    bad = [case for case in CASES.values() if case.code is not None]
    assert len(bad) >= 30
    assert len({case.code for case in bad}) >= 15


def test_every_planned_pair_is_either_ok_or_quarantined(prepared: dict[str, dict[str, Any]]) -> None:
    assert set(prepared) == set(CASES)
    counts = Counter(row["status"] for row in prepared.values())
    assert counts["ok"] + counts["quarantined"] == len(CASES)
    assert counts["ok"] == sum(case.code is None for case in CASES.values())


@pytest.mark.parametrize("name", CASES)
def test_a_pair_has_its_code_and_a_message_or_its_pixels(name: str, prepared: dict[str, dict[str, Any]]) -> None:
    row = prepared[name]
    assert row["error_code"] == CASES[name].code, row["error_message"]
    pixels = (row["image"], row["mask"], row["class_pixels"], row["channel_sum"])
    if CASES[name].code is None:
        assert None not in pixels
        assert (row["error_message"], row["height"], row["width"]) == (None, HEIGHT, WIDTH)
        assert sum(row["class_pixels"]) + row["ignored_pixels"] == HEIGHT * WIDTH
    else:
        assert pixels == (None, None, None, None)
        assert 10 < len(row["error_message"]) < 1000
        assert row["error_message"].isprintable()


def test_an_odd_pair_that_is_usable_has_the_pixels_of_a_plain_one(prepared: dict[str, dict[str, Any]]) -> None:
    image, ids = draw(0)
    same_mask = (name for name, case in CASES.items() if case.code is None and case.mask == CASES["fine.png"].mask)
    for name in [*same_mask, "mask_palette.png", "mask_4_bits.png", "mask_16_bits.png", "mask_equal_channels.png"]:
        mask = decode_stored_mask(prepared[name]["mask"], HEIGHT, WIDTH, "png")
        assert np.array_equal(mask, ids), name
    for name, tolerance in (
        ("turned.png", 0),
        ("transparent.png", 0),
        ("fine_deflated.tif", 0),
        ("turned_jpeg.jpg", 16),
    ):
        assert np.abs(decode_plain(prepared[name]["image"]).astype(int) - image).mean() <= tolerance, name


def test_prediction_gives_a_pair_the_code_that_prepare_gives_it(planned: list[dict[str, Any]]) -> None:
    located = [row | {"part_uri": None, "part_row": None} for row in planned]
    frames = load_frames(located, classes=CLASS_MAP, policy=ImagesSection()).to_pylist()
    found = {row["image_id"]: row["error_code"] for row in frames}
    assert found == {name: case.code for name, case in CASES.items()} | {"mask_never_there.png": None}
    assert all((row["error_code"] is None) == (row["image"] is not None) for row in frames)
