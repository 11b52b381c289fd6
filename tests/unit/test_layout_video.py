import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.unit.image_files import encode
from tests.unit.tiny_dataset import CLASSES
from tests.unit.video_files import HEIGHT, WIDTH, read_number, write_video
from unet_ray.config import Config, PredictSection
from unet_ray.config_input import DataSection, ImagesSection, LabelsSection, VideoSection
from unet_ray.datasets.frames import fetch_pair, load_frames, read_frame
from unet_ray.datasets.layouts import list_inputs
from unet_ray.datasets.listing import Listing, Row
from unet_ray.datasets.video import add_video, frames_taken
from unet_ray.errors import DatasetError, ImageError
from unet_ray.images.video import VideoFacts
from unet_ray.prepare import check_pairs

POLICY = ImagesSection()
TEN_SECONDS = VideoFacts(frames=250, fps=25.0, height=HEIGHT, width=WIDTH)


def list_videos(root: Path | str, masks: str | None = None, **video: float) -> list[Row]:
    config = Config(video=VideoSection(**video))  # type: ignore[arg-type]
    with Listing() as listing:
        add_video(listing, str(root), config, masks)
        return list(listing.rows())


@pytest.mark.parametrize(
    ("section", "indices"),
    [
        (VideoSection(), range(250)),
        (VideoSection(every=100), [0, 100, 200]),
        (VideoSection(every=249), [0, 249]),
        (VideoSection(every=1000), [0]),
        (VideoSection(fps=5), range(0, 250, 5)),
        (VideoSection(fps=10, end_s=0.5), [0, 2, 5, 8, 10, 12]),
        (VideoSection(fps=50), range(250)),
        (VideoSection(fps=0.2), [0, 125]),
        (VideoSection(start_s=9.9), [248, 249]),
        (VideoSection(start_s=1, end_s=1.12), [25, 26, 27]),
        (VideoSection(start_s=1.01, every=100), [26, 126, 226]),
        (VideoSection(end_s=1000, every=200), [0, 200]),
        (VideoSection(start_s=10), []),
    ],
)
def test_frames_are_taken_by_number_by_rate_and_within_a_time(
    section: VideoSection, indices: range | list[int]
) -> None:
    assert list(frames_taken(TEN_SECONDS, section)) == list(indices)


def test_a_rate_that_the_video_has_not_takes_the_nearest_frames() -> None:
    facts = VideoFacts(frames=300, fps=29.97, height=HEIGHT, width=WIDTH)
    assert list(frames_taken(facts, VideoSection(fps=10)))[:5] == [0, 3, 6, 9, 12]
    assert len(list(frames_taken(facts, VideoSection(fps=10)))) == 100


def test_rows_of_a_folder_are_frames_in_natural_order(tmp_path: Path) -> None:
    for key in ("day/10.mp4", "day/2.mp4", "night/a.MKV"):
        write_video(tmp_path / key, 30)
    (tmp_path / "notes.txt").write_text("x")
    config = Config(
        data=DataSection(layout="video", root=f"{tmp_path}/", split="group", val_fraction=0.34),
        video=VideoSection(every=20),
    )
    with list_inputs(config) as listing:
        rows, found = list(listing.rows()), listing.summary()
    assert [row["image_id"] for row in rows] == [
        "day/2.mp4#0", "day/2.mp4#20", "day/10.mp4#0", "day/10.mp4#20", "night/a.MKV#0", "night/a.MKV#20"
    ]  # fmt: skip
    row = rows[1]
    assert (row["image_uri"], row["group"]) == (f"{tmp_path}/day/2.mp4", "day/2.mp4")
    assert (row["frame"], row["frame_index"], row["mask_uri"]) == (20, 20, None)
    assert row["image_bytes"] == (tmp_path / "day/2.mp4").stat().st_size
    assert sorted(row["split"] for row in rows) == ["train"] * 4 + ["val"] * 2
    assert found["skipped_examples"] == [f"{tmp_path}/notes.txt"]


def test_a_video_that_ends_before_the_range_is_counted_as_skipped(tmp_path: Path) -> None:
    write_video(tmp_path / "long.mp4", 60)
    write_video(tmp_path / "short.mp4", 10)
    with Listing() as listing:
        add_video(listing, str(tmp_path), Config(video=VideoSection(start_s=2)))
        assert {row["group"] for row in listing.rows()} == {"long.mp4"}
        assert listing.summary()["skipped_examples"] == [f"{tmp_path}/short.mp4"]


def test_masks_are_found_by_the_number_of_their_frame(tmp_path: Path) -> None:
    write_video(tmp_path / "day/a.mp4", 30)
    for key in ("day/a/7.png", "day/a/0021.png", "day/a/29.txt", "day/a/x8.png", "b/9.png"):
        path = tmp_path / "masks" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(np.full((HEIGHT, WIDTH), 2, np.uint8), "PNG"))
    rows = list_videos(tmp_path)
    masks = {row["frame_index"]: row["mask_uri"] for row in rows if row["mask_uri"] is not None}
    assert masks == {7: f"{tmp_path}/masks/day/a/7.png", 21: f"{tmp_path}/masks/day/a/0021.png"}
    assert list_videos(tmp_path, f"{tmp_path}/nowhere")[7]["mask_uri"] is None

    checked = check_pairs(
        [row | {"row_id": number} for number, row in enumerate(rows[20:22])],
        classes=CLASSES, policy=POLICY, resize=(24, 32),
    ).to_pylist()  # fmt: skip
    assert [row["error_code"] for row in checked] == ["missing_mask", None]
    assert (checked[1]["height"], checked[1]["width"], checked[1]["class_pixels"]) == (24, 32, [0, 0, 24 * 32])


def test_a_single_video_is_an_input_and_its_masks_lie_beside_it(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", 12)
    (tmp_path / "masks/a").mkdir(parents=True)
    (tmp_path / "masks/a/10.png").write_bytes(encode(np.zeros((HEIGHT, WIDTH), np.uint8), "PNG"))
    rows = list_videos(tmp_path / "a.mp4", every=5)
    assert [(row["image_id"], row["mask_uri"]) for row in rows] == [
        ("a.mp4#0", None), ("a.mp4#5", None), ("a.mp4#10", f"{tmp_path}/masks/a/10.png")
    ]  # fmt: skip


def test_planned_frames_are_read_whatever_their_order(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", 100)
    write_video(tmp_path / "b.avi", 100, "MJPG")
    rows = list_videos(tmp_path, every=9)
    for row in (*rows, *rows[::-1], rows[-1], rows[0]):
        image, mask = read_frame(row | {"part_uri": None}, CLASSES, POLICY)
        assert (read_number(image), mask) == (row["frame_index"], None)


def test_bad_videos_among_good_ones_are_one_row_each_with_the_reason(tmp_path: Path) -> None:
    good = write_video(tmp_path / "good.mp4", 10).read_bytes()
    write_video(tmp_path / "hollow.avi", 0, "MJPG")
    (tmp_path / "cut.mp4").write_bytes(good[:300])
    (tmp_path / "empty.mkv").write_bytes(b"")
    (tmp_path / "text.mp4").write_bytes(b"these are words")
    rows = [row | {"row_id": number, "part_uri": None} for number, row in enumerate(list_videos(tmp_path, every=5))]
    frames = load_frames(rows, classes=CLASSES, policy=POLICY).to_pylist()
    assert {row["image_id"]: row["error_code"] for row in frames} == {
        "cut.mp4": "corrupt",
        "empty.mkv": "empty_object",
        "good.mp4#0": None,
        "good.mp4#5": None,
        "hollow.avi": "no_frames",
        "text.mp4": "not_a_video",
    }
    assert [row["frame_index"] for row in rows] == [None, None, 0, 5, None, None]


def test_frames_that_the_header_promised_in_vain_are_missing(tmp_path: Path) -> None:
    content = write_video(tmp_path / "a.avi", 100, "MJPG").read_bytes()
    (tmp_path / "a.avi").write_bytes(content[: len(content) // 2])
    rows = [row | {"row_id": number, "part_uri": None} for number, row in enumerate(list_videos(tmp_path, every=30))]
    frames = load_frames(rows, classes=CLASSES, policy=POLICY).to_pylist()
    assert [row["error_code"] for row in frames] == [None, None, "missing_frame", "missing_frame"]


def replace(path: Path) -> None:
    write_video(path, 11)


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(("change", "code"), [(replace, "changed_image"), (remove, "missing_image")])
def test_a_video_that_is_another_one_or_gone_is_told(tmp_path: Path, change: Callable[[Path], None], code: str) -> None:
    path = write_video(tmp_path / "a.mp4", 10)
    row = list_videos(path)[3]
    change(path)
    with pytest.raises(ImageError, match=f"{code}: could not (read|look up) {path}"):
        fetch_pair(row, CLASSES, POLICY)


def test_a_video_that_is_replaced_while_it_is_open_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unet_ray.images.video._MOST_BLOCKS", 1)

    def noise(number: int) -> np.ndarray:
        return np.random.default_rng(number).integers(0, 255, (192, 256, 3), np.uint8)

    path = write_video(tmp_path / "a.avi", 70, "MJPG", draw=noise)
    first, *_, last = list_videos(path)
    fetch_pair(first, CLASSES, POLICY)
    os.utime(path, ns=(1, 1))
    with pytest.raises(ImageError, match=r"changed_image: .* the file changed since it was listed"):
        fetch_pair(last, CLASSES, POLICY)


def test_a_row_of_a_list_that_names_a_video_is_told_to_name_a_frame(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 3)
    row = {"image_uri": str(path), "mask_uri": None, "frame_index": None}
    with pytest.raises(ImageError, match=r"missing_frame: the row names no frame of the video; data\.layout: video"):
        fetch_pair(row, CLASSES, POLICY)


@pytest.mark.parametrize(
    ("files", "root", "video", "said"),
    [
        ({}, "", {}, r"0 videos under .*: it holds nothing; MP4, MOV, AVI, MKV and WebM files are read"),
        ({"a.png": b"x", "b.txt": b"y"}, "", {}, r"0 videos under .*: it holds 2 other objects, such as .*a\.png; MP4"),
        ({}, "/nowhere", {}, r"nowhere: no such video or folder; check data\.root or predict\.images"),
        ({}, "/none.mp4", {}, r"none\.mp4: no such video or folder"),
        ({"a.mp4": b"", "b.mov": b""}, "", {}, r"0 frames taken from 2 videos at .*; the first fault is empty_object"),
        (
            {"a.mp4": None},
            "",
            {"start_s": 60},
            r"0 frames taken from 1 videos at .*; check video\.start_s, which is in",
        ),
    ],
)
def test_an_input_without_a_frame_is_refused(
    tmp_path: Path, files: dict[str, bytes | None], root: str, video: dict[str, float], said: str
) -> None:
    for name, content in files.items():
        write_video(tmp_path / name, 5) if content is None else (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetError, match=said):
        list_videos(f"{tmp_path}{root}", **video)


def test_a_folder_layout_of_frames_is_not_changed_by_videos_beside_them(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images/1.png").write_bytes(b"x")
    write_video(tmp_path / "images/a.mp4", 3)
    data = DataSection(root=str(tmp_path), masks=None, val_fraction=0)
    with list_inputs(Config(data=data, labels=LabelsSection(classes=("a",)), predict=PredictSection())) as listing:
        assert [row["image_id"] for row in listing.rows()] == ["images/1.png"]
        assert listing.summary()["skipped_objects"] == 1
