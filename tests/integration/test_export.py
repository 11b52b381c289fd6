"""Exports of a real run, in tasks: to a store, and back into `prepare`."""

import csv
import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from unet_ray import prepare, storage
from unet_ray.config import Config
from unet_ray.config_file import load_config
from unet_ray.export.run import run
from unet_ray.images.encode import decode_stored_mask
from unet_ray.images.video import Video
from unet_ray.object_file import ObjectFile
from unet_ray.predict import run as predict
from unet_ray.table.read import open_table

Finished = tuple[Config, predict.PredictResult]


def masks_of(uri: str) -> list[np.ndarray]:
    rows = open_table(uri).read(["pred_mask", "height", "width"]).to_pylist()
    return [decode_stored_mask(row["pred_mask"], row["height"], row["width"], "raw") for row in rows]


def test_a_store_gets_a_coco_document_of_all_shards(finished: Finished, s3_bucket: str) -> None:
    uri = finished[0].predictions_uri
    found = run(uri, f"{s3_bucket}/coco", "coco", None)
    document = json.loads(storage.read_bytes(f"{s3_bucket}/coco/annotations.json"))
    masks = masks_of(uri)
    assert found.frames == len(masks) == len(document["images"])
    again = [np.full_like(mask, 255) for mask in masks]
    for one in document["annotations"]:
        again[one["image_id"] - 1][coco_mask.decode(one["segmentation"]) == 1] = one["category_id"] - 1
    for before, after in zip(masks, again, strict=True):
        np.testing.assert_array_equal(before, after)
    keys = Counter(item.key.partition("/")[0] for item in storage.list_objects(f"{s3_bucket}/coco"))
    assert keys == {"images": len(masks), "panoptic": len(masks)} | dict.fromkeys(
        ("annotations.json", "panoptic.json", "classes.json", "frames.csv", "_SUCCESS.json"), 1
    )


def test_a_group_that_crosses_shards_is_one_video_in_a_store(finished: Finished, s3_bucket: str) -> None:
    config = finished[0]
    assert run(config.predictions_uri, f"{s3_bucket}/video", "video", None).frames == len(
        masks_of(config.predictions_uri)
    )
    listed = csv.DictReader(io.StringIO(storage.read_bytes(f"{s3_bucket}/video/frames.csv").decode()))
    frames = [(row["file"], row["group"], int(row["frame"])) for row in listed]
    assert frames == sorted(frames)
    for name, count in Counter(file for file, *_ in frames).items():
        video = Video(ObjectFile(storage.look_up(f"{s3_bucket}/video/{name}")), 10_000)
        assert video.facts.frames == count


def test_masks_of_a_run_are_prepared_again(finished: Finished, tmp_path: Path) -> None:
    uri = finished[0].predictions_uri
    run(uri, str(tmp_path / "fix"), "list", None)
    config = load_config(str(tmp_path / "fix/prepare.yaml"), {"run.storage": str(tmp_path)})
    prepare.run(config)
    rows = open_table(config.dataset_uri).read(["mask", "height", "width", "status"]).to_pylist()
    for row, mask in zip(rows, masks_of(uri), strict=True):
        np.testing.assert_array_equal(decode_stored_mask(row["mask"], row["height"], row["width"], "png"), mask)
