"""Videos, GeoTIFFs and FiftyOne's folders."""

import io
import resource
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.transform import from_origin

from tests.unit.export_table import CLASSES, GOOD, LOST_ROW, ORDER, listed, mask_of, photo_of, publish
from tests.unit.image_files import POLICY
from unet_ray.errors import StorageError
from unet_ray.export.frames import Portion, Source, read_frames
from unet_ray.export.run import run
from unet_ray.export.sink import Sink
from unet_ray.export.video import video
from unet_ray.images.paint import blend
from unet_ray.images.resize import resize_image
from unet_ray.images.video import Video
from unet_ray.table.read import open_table

pytestmark = pytest.mark.usefixtures("inline_tasks")


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return publish(tmp_path_factory.mktemp("predictions"))


@pytest.mark.parametrize("beside", [False, True])
def test_a_video_has_the_frames_of_its_group_in_their_order(uri: str, beside: bool, tmp_path: Path) -> None:
    found = run(uri, str(tmp_path), "video-beside" if beside else "video", None, 12.5)
    assert (found.frames, found.unreadable) == (len(GOOD), 1)
    assert [int(row["row_id"]) for row in listed(tmp_path)] == [*ORDER["drive"], *ORDER[""]]
    for group, first in (("drive", 0), ("", 6)):
        name = f"{first:09d}.mp4"
        assert {row["file"] for row in listed(tmp_path) if row["group"] == group} == {name}
        video = Video(io.BytesIO((tmp_path / name).read_bytes()), 10_000)
        assert (video.facts.frames, video.facts.fps) == (len(ORDER[group]), 12.5)
        height, width = mask_of(ORDER[group][0]).shape
        assert (video.facts.height, video.facts.width) == (height // 2 * 2, width * (1 + beside))
        for index, row_id in enumerate(ORDER[group]):
            photo = photo_of(row_id)
            picture = blend(photo, mask_of(row_id), CLASSES.palette)
            expected = resize_image(np.hstack([photo, picture]) if beside else picture, height, width * (1 + beside))
            apart = np.abs(video.read(index).astype(np.int16) - expected[: height // 2 * 2])
            others = [
                np.abs(video.read(index).astype(np.int16) - resize_image(
                    np.hstack([photo_of(other)] * 2) if beside else photo_of(other), height, width * (1 + beside)
                )[: height // 2 * 2]).mean()
                for other in ORDER[group] if other != row_id
            ]  # fmt: skip
            assert apart.mean() < 12 < min(others)


def test_a_video_that_the_disk_has_no_room_for_is_no_video(uri: str, tmp_path: Path) -> None:
    table = open_table(uri)
    source = Source(plan=table.plan, classes=CLASSES, policy=POLICY)
    portion = Portion(key=0, parts=tuple(table.part_uris()), row_ids=None, group="")

    def make() -> None:
        with video(Sink(str(tmp_path), 0, CLASSES, ()), fps=25, beside=False) as write:
            for frame in read_frames(portion, source):
                assert frame is not None
                write(frame)

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (400, limits[1]))
        with pytest.raises(StorageError, match=r"could not write a video of 3 frames: 0 are in .*0\.mp4; make room on"):
            make()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def ground(tmp_path: Path) -> str:
    """Publish a table of whose photos two are GeoTIFFs, one by a transformation, one by ground control points."""
    uri = publish(tmp_path)
    planned = {row_id: tmp_path / "photos" / f"{row_id}.png" for row_id in (0, 2, 4)}
    for row_id, path in planned.items():
        photo = photo_of(row_id)
        profile = {
            "driver": "GTiff", "count": 3, "dtype": "uint8", "photometric": "RGB", "tiled": row_id == 2,
            "height": photo.shape[0], "width": photo.shape[1], "blockxsize": 16, "blockysize": 16,
        }  # fmt: skip
        path.unlink()
        with rasterio.open(path, "w", **profile) as file:
            file.write(photo.transpose(2, 0, 1))
            if row_id == 0:
                file.transform, file.crs = from_origin(691_000.25, 5_334_000.5, 0.2, 0.1), CRS.from_epsg(25832)
            if row_id == 2:
                corners = [(0, 0, 11.0, 48.0), (0, 34, 11.5, 48.1), (24, 0, 11.1, 47.5), (24, 34, 11.6, 47.6)]
                file.gcps = [GroundControlPoint(r, c, x, y) for r, c, x, y in corners], CRS.from_epsg(4326)
    return uri


def test_masks_lie_where_their_photos_do(ground: str, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    found = run(ground, str(folder), "geotiff", None)
    assert (found.frames, found.unreadable, found.unreferenced) == (len(GOOD), 1, len(GOOD) - 2)
    for row in listed(folder):
        row_id = int(row["row_id"])
        with rasterio.open(folder / row["file"]) as mask, rasterio.open(row["image_uri"]) as photo:
            np.testing.assert_array_equal(mask.read(1), mask_of(row_id))
            assert (mask.transform, mask.crs) == (photo.transform, photo.crs)
            assert [point.asdict() for point in mask.gcps[0]] == [point.asdict() for point in photo.gcps[0]]
            assert mask.gcps[1] == photo.gcps[1]
            assert (mask.crs is not None, bool(mask.gcps[0])) == (row_id == 0, row_id == 2)
    assert LOST_ROW not in {int(row["row_id"]) for row in listed(folder)}


def test_fiftyone_has_photos_and_masks_of_one_name_and_no_class_is_0(uri: str, tmp_path: Path) -> None:
    found = run(uri, str(tmp_path), "fiftyone", None)
    assert (found.frames, found.unreadable) == (len(GOOD), 1)
    stems = {folder: sorted(path.stem for path in (tmp_path / folder).iterdir()) for folder in ("data", "labels")}
    assert stems["data"] == stems["labels"] == [f"{row_id:09d}" for row_id in GOOD]
    for row in listed(tmp_path):
        assert (tmp_path / row["file"]).is_file()
        with Image.open(tmp_path / "labels" / f"{int(row['row_id']):09d}.png") as picture:
            assert picture.mode == "L"
            np.testing.assert_array_equal(np.asarray(picture), mask_of(int(row["row_id"])) + 1)
