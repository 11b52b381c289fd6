"""Frames of videos, read in parts from a store, through the stages."""

from pathlib import Path

import numpy as np
import pytest

from tests.integration.conftest import tiny_config
from tests.unit.image_files import encode
from tests.unit.tiny_dataset import CLASSES
from tests.unit.video_files import read_number, write_video
from unet_ray import storage
from unet_ray.config import Config
from unet_ray.config_input import ImagesSection
from unet_ray.datasets import synthetic
from unet_ray.datasets.frames import fetch_pair
from unet_ray.datasets.listing import Listing, Row
from unet_ray.datasets.video import add_video
from unet_ray.errors import ImageError, PlanMismatchError
from unet_ray.predict import run as predict
from unet_ray.report import run as report
from unet_ray.table.read import open_table

POLICY = ImagesSection()


def list_videos(root: str) -> list[Row]:
    with Listing() as listing:
        add_video(listing, root, Config())
        return list(listing.rows())


def test_videos_in_a_store_give_the_rows_and_the_frames_of_a_disk(tmp_path: Path, s3_bucket: str) -> None:
    write_video(tmp_path / "day/a #1.mp4", 70)
    write_video(tmp_path / "b.avi", 30, "MJPG")
    (tmp_path / "masks/b").mkdir(parents=True)
    (tmp_path / "masks/b/0003.png").write_bytes(encode(np.zeros((48, 64), np.uint8), "PNG"))
    for item in storage.list_objects(str(tmp_path)):
        storage.write(f"{s3_bucket}/{item.key}", storage.read_bytes(item.uri))
    here, there = list_videos(str(tmp_path)), list_videos(s3_bucket)
    same = ("image_id", "image_bytes", "frame_index", "group", "frame")
    assert [[row[name] for name in same] for row in here] == [[row[name] for name in same] for row in there]
    assert [row["image_id"] for row in there if row["mask_uri"]] == ["b.avi#3"]
    for local, remote in zip(here[::-7], there[::-7], strict=True):
        pairs = [fetch_pair(row | {"mask_uri": None}, CLASSES, POLICY) for row in (local, remote)]
        assert np.array_equal(pairs[0].image, pairs[1].image)
        assert read_number(pairs[1].image) == remote["frame_index"]
    assert list_videos(f"{s3_bucket}/b.avi")[29]["image_id"] == "b.avi#29"


def test_a_video_in_a_store_that_changed_or_went_is_told(tmp_path: Path, s3_bucket: str) -> None:
    uri = f"{s3_bucket}/a.mp4"
    storage.write(uri, write_video(tmp_path / "a.mp4", 10).read_bytes())
    row = list_videos(uri)[4]
    storage.write(uri, write_video(tmp_path / "a.mp4", 11).read_bytes())
    with pytest.raises(ImageError, match=r"changed_image: .*a\.mp4: the (file|object) changed since it was listed"):
        fetch_pair(row, CLASSES, POLICY)
    storage.delete(uri)
    with pytest.raises(ImageError, match=r"missing_image: could not look up .*a\.mp4: there is no such object"):
        fetch_pair(row, CLASSES, POLICY)


def test_a_video_is_segmented_as_its_frames_are(
    finished: tuple[Config, predict.PredictResult], tmp_path: Path, s3_bucket: str
) -> None:
    root = Path(finished[0].run.storage)
    video = tmp_path / "videos/drive.avi"
    write_video(video, 20, "FFV1", draw=lambda number: synthetic.render_frame(0, 0, number % 7, 48, 64)[0])
    storage.write(f"{s3_bucket}/videos/drive.avi", video.read_bytes())
    storage.write(f"{s3_bucket}/videos/broken.mp4", b"no video")
    [row, *rows] = list_videos(f"{s3_bucket}/videos")
    for number, frame in enumerate(rows):
        storage.write(f"{tmp_path}/frames/{number:02}.png", encode(fetch_pair(frame, CLASSES, POLICY).image, "PNG"))
    assert (row["image_id"], row["frame_index"]) == ("broken.mp4", None)

    of_video = {"predict__images": f"{s3_bucket}/videos", "predict__layout": "video", "video__every": "3"}
    result = predict.run(tiny_config(root, **of_video, predict__output=f"{tmp_path}/of_video"))
    assert (result.frames, result.ok, result.errors) == (8, 7, {"not_a_video": 1})
    predict.run(tiny_config(root, predict__images=f"{tmp_path}/frames", predict__output=f"{tmp_path}/of_frames"))
    columns = ["row_id", "image_id", "frame", "pred_mask", "class_pixels"]
    tables = [open_table(f"{tmp_path}/{name}").read(columns).to_pylist() for name in ("of_video", "of_frames")]
    of_frames = {row["frame"]: row["pred_mask"] for row in tables[1]}
    assert [row["image_id"] for row in tables[0][1:]] == [f"drive.avi#{index}" for index in range(0, 20, 3)]
    assert all(row["pred_mask"] == of_frames[row["frame"]] for row in tables[0][1:])

    with pytest.raises(PlanMismatchError, match=r"video\.every: .* was begun with 3, this job has 4"):
        predict.run(tiny_config(root, **of_video | {"video__every": "4"}, predict__output=f"{tmp_path}/of_video"))
    shown = tiny_config(root, predict__output=f"{tmp_path}/of_video", predict__images=f"{s3_bucket}/videos")
    report.run(shown)
    assert "drive.avi#" in storage.read_bytes(f"{shown.report_uri}/index.html").decode()
