"""COCO: run lengths against its own library, and a whole export loaded by it."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from tests.unit.export_table import CLASSES, GOOD, listed, mask_of, photo_of, publish
from unet_ray.export.run import run
from unet_ray.export.run_lengths import count_runs, pack_runs

INSIDE = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.booleans())


@given(INSIDE)
def test_run_lengths_are_those_of_cocos_own_library(inside: np.ndarray) -> None:
    expected = coco_mask.encode(np.asfortranarray(inside.astype(np.uint8)))
    assert pack_runs(count_runs(inside)) == expected["counts"].decode()


@pytest.mark.parametrize("fill", [False, True])
def test_long_runs_and_large_differences_are_packed_as_well(fill: bool) -> None:
    inside = np.full((3000, 2000), fill)
    inside[17, 3] = inside[2999, 1999] = not fill
    expected = coco_mask.encode(np.asfortranarray(inside.astype(np.uint8)))
    assert pack_runs(count_runs(inside)) == expected["counts"].decode()


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return publish(tmp_path_factory.mktemp("predictions"))


@pytest.mark.usefixtures("inline_tasks")
def test_an_export_is_what_cocos_library_loads_with_the_very_masks(uri: str, tmp_path: Path) -> None:
    found = run(uri, str(tmp_path), "coco", None)
    assert (found.frames, found.unreadable) == (len(GOOD), 1)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(tmp_path / "annotations.json"))
    assert [one["name"] for one in coco.loadCats(coco.getCatIds())] == list(CLASSES.classes)
    assert sorted(coco.getImgIds()) == [row_id + 1 for row_id in GOOD]
    assert min(*coco.getCatIds(), *coco.getImgIds(), *coco.getAnnIds()) > 0
    assert len(set(coco.getAnnIds())) == len(coco.dataset["annotations"])
    for image in coco.loadImgs(coco.getImgIds()):
        row_id = image["id"] - 1
        mask = np.full((image["height"], image["width"]), 255, np.uint8)
        for annotation in coco.loadAnns(coco.getAnnIds(image["id"])):
            inside = coco.annToMask(annotation) == 1
            run_lengths: Any = annotation["segmentation"]
            assert annotation["area"] == inside.sum() == coco_mask.area(run_lengths)
            assert annotation["bbox"] == coco_mask.toBbox(run_lengths).tolist()
            mask[inside] = annotation["category_id"] - 1
        np.testing.assert_array_equal(mask, mask_of(row_id))
        if row_id != 1:  # a JPEG
            photo = cv2.imread(str(tmp_path / "images" / image["file_name"]), cv2.IMREAD_COLOR_RGB)
            np.testing.assert_array_equal(photo, photo_of(row_id))
    assert [row["file"].partition("/")[2] for row in listed(tmp_path)] == [
        image["file_name"] for image in coco.dataset["images"]
    ]


@pytest.mark.usefixtures("inline_tasks")
def test_panoptic_pngs_hold_the_segments_that_their_document_tells(uri: str, tmp_path: Path) -> None:
    run(uri, str(tmp_path), "coco", None)
    document = json.loads((tmp_path / "panoptic.json").read_text())
    assert document["categories"] == json.loads((tmp_path / "annotations.json").read_text())["categories"]
    assert [one["image_id"] for one in document["annotations"]] == [one["id"] for one in document["images"]]
    for annotation in document["annotations"]:
        png = cv2.imread(str(tmp_path / "panoptic" / annotation["file_name"]), cv2.IMREAD_COLOR_RGB).astype(np.int64)
        segments = png @ [1, 256, 256**2]
        assert sorted(one["id"] for one in annotation["segments_info"]) == np.unique(segments).tolist()
        for one in annotation["segments_info"]:
            np.testing.assert_array_equal(
                segments == one["id"], mask_of(annotation["image_id"] - 1) == one["category_id"] - 1
            )
            assert one["area"] == (segments == one["id"]).sum()


@pytest.mark.usefixtures("inline_tasks")
def test_an_export_without_a_frame_is_still_a_document(uri: str, tmp_path: Path) -> None:
    assert run(uri, str(tmp_path), "coco", "row_id = 5").frames == 0
    document = json.loads((tmp_path / "annotations.json").read_text())
    assert (document["images"], document["annotations"]) == ([], [])
    assert len(document["categories"]) == len(CLASSES.classes)
