import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.image_files import encode, gradient
from tests.unit.video_files import HEIGHT, WIDTH, draw_number, read_number, retimed, turned, write_video
from unet_ray.errors import ImageError, TransientError
from unet_ray.images.mp4 import count_even_frames
from unet_ray.images.repeats import find_repeats, frame_distance, make_thumbnail
from unet_ray.images.video import Video, VideoFacts, is_video

MOST = 10_000
NUM_FRAMES = 300
ORDER = (299, 0, 1, 150, 149, 3, 298, 276, 64, 0)


def open_video(content: bytes, max_pixels: int = MOST) -> Video:
    return Video(io.BytesIO(content), max_pixels)


@pytest.fixture(scope="module")
def mp4(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_video(tmp_path_factory.mktemp("video") / "a.mp4").read_bytes()


@pytest.mark.parametrize(
    ("ending", "codec"),
    [
        ("mp4", "mp4v"), ("mov", "mp4v"), ("mkv", "mp4v"), ("avi", "XVID"), ("avi", "MJPG"), ("mov", "MJPG"),
        ("webm", "VP80"), ("mkv", "VP90"), ("mp4", "MPG2"), ("mkv", "MPG2"), ("avi", "MPG2"),
    ],
)  # fmt: skip
def test_every_frame_is_found_by_its_index_in_any_order(tmp_path: Path, ending: str, codec: str) -> None:
    video = open_video(write_video(tmp_path / f"a.{ending}", NUM_FRAMES, codec).read_bytes())
    assert video.facts == VideoFacts(frames=NUM_FRAMES, fps=25.0, height=HEIGHT, width=WIDTH)
    assert [read_number(video.read(index)) for index in ORDER] == list(ORDER)
    assert [read_number(video.read(index)) for index in range(NUM_FRAMES)] == list(range(NUM_FRAMES))
    alone = {index: read_number(open_video((tmp_path / f"a.{ending}").read_bytes()).read(index)) for index in ORDER}
    assert all(index == number for index, number in alone.items())


@pytest.mark.parametrize(
    "durations",
    [[(50, 512), (50, 1024)], [(50, 512), (1, 3072), (49, 512)], [(33, 256), (34, 768), (33, 512)]],
    ids=["two rates", "a gap", "three rates"],
)
def test_frames_that_are_not_evenly_spaced_are_still_found_by_their_index(
    mp4: bytes, durations: list[tuple[int, int]]
) -> None:
    video = open_video(retimed(mp4, durations))
    assert video.facts.frames == 100
    order = (99, 50, 51, 20, 70, 0, 98)
    assert [read_number(video.read(index)) for index in order] == list(order)


class Counting(io.BytesIO):
    """A file that counts what is read of it."""

    num_read = 0

    def read(self, size: int | None = -1) -> bytes:
        content = super().read(size)
        self.num_read += len(content)
        return content


def test_a_window_of_an_mp4_is_read_without_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unet_ray.images.video._BLOCK_BYTES", 2**16)
    scene = np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8)
    path = write_video(tmp_path / "a.mp4", 600, draw=lambda number: np.roll(scene, number, axis=1))
    source, size = Counting(path.read_bytes()), path.stat().st_size
    assert size > 2**20
    video = Video(source, 10**6)
    for index in range(400, 464):
        video.read(index)
    assert source.num_read < size / 2


@pytest.mark.parametrize("ending", ["mp4", "mov"])
def test_an_mp4_tells_how_many_even_frames_it_has(tmp_path: Path, ending: str) -> None:
    content = write_video(tmp_path / f"a.{ending}").read_bytes()
    assert count_even_frames(io.BytesIO(content)) == 100
    assert count_even_frames(io.BytesIO(retimed(content, [(50, 512), (50, 1024)]))) is None
    assert count_even_frames(io.BytesIO(retimed(content, []))) is None
    assert count_even_frames(io.BytesIO(content.replace(b"vide", b"soun"))) is None


@given(st.integers(0, 2**31), st.binary(min_size=1, max_size=9))
def test_no_damage_of_an_mp4_upsets_the_search_for_its_table(mp4: bytes, place: int, damage: bytes) -> None:
    at = place % len(mp4)
    found = count_even_frames(io.BytesIO(mp4[:at] + damage + mp4[at + len(damage) :]))
    assert found is None or found > 0


def test_frames_are_rgb(tmp_path: Path) -> None:
    image = gradient(HEIGHT, WIDTH)
    video = open_video(write_video(tmp_path / "a.avi", 3, "MJPG", draw=lambda number: image).read_bytes())
    found = video.read(2)
    assert (found.shape, found.dtype) == ((HEIGHT, WIDTH, 3), np.uint8)
    assert np.abs(found.astype(int) - image).mean() < 4


def test_a_video_that_was_filmed_on_its_side_is_turned_upright(mp4: bytes) -> None:
    video = open_video(turned(mp4))
    assert (video.facts.height, video.facts.width) == (WIDTH, HEIGHT)
    assert read_number(np.rot90(video.read(77)).copy()) == 77


def test_a_frame_after_the_last_one_is_missing(mp4: bytes) -> None:
    video = open_video(mp4)
    with pytest.raises(ImageError, match=r"missing_frame: no frame 100: the header says 100, the file ends before it"):
        video.read(100)
    assert read_number(video.read(99)) == 99


@pytest.mark.parametrize(("ending", "codec"), [("avi", "MJPG"), ("mkv", "mp4v")])
def test_a_video_that_was_cut_off_gives_the_frames_it_has(tmp_path: Path, ending: str, codec: str) -> None:
    content = write_video(tmp_path / f"a.{ending}", 100, codec).read_bytes()
    video = open_video(content[: len(content) // 2])
    assert video.facts.frames == 100
    assert [read_number(video.read(index)) for index in (38, 0, 37)] == [38, 0, 37]
    for index in (99, 70):
        with pytest.raises(ImageError, match=f"missing_frame: no frame {index}: the header says 100"):
            video.read(index)
    assert read_number(video.read(39)) == 39


def test_frames_behind_a_damage_keep_their_index(tmp_path: Path) -> None:
    content = bytearray(write_video(tmp_path / "a.mp4", NUM_FRAMES, "MPG2").read_bytes())
    content[8000:9000] = bytes(1000)
    video, found, lost = open_video(bytes(content)), [], []
    for index in range(NUM_FRAMES):
        try:
            found.append((index, read_number(video.read(index))))
        except ImageError as error:
            lost.append(error.code)
    assert found[-1] == (299, 299)
    wrong = [pair for pair in found if pair[0] != pair[1]]
    assert len(lost) + len(wrong) < 60  # the decoder conceals what it can, up to the next key frame
    assert set(lost) <= {"corrupt"}
    again = open_video(bytes(content))
    assert [read_number(again.read(index)) for index, _ in found[::-1]] == [number for _, number in found[::-1]]


def scramble(content: bytes) -> bytes:
    return content[:48] + bytes(range(256)) * (len(content) // 256)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda content: b"", "empty_object: the file is empty"),
        (lambda content: b"a text, not a video", "not_a_video: no MP4, MOV, AVI, MKV or WebM; it starts with b'a text"),
        (lambda content: encode(gradient(8, 8), "PNG"), "not_a_video: no MP4, MOV, AVI, MKV or WebM"),
        (lambda content: b"ffconcat version 1.0\nfile a.mp4\n", "not_a_video: no MP4"),
        (lambda content: content[: len(content) // 2], "corrupt: the header of the video cannot be read; it may"),
        (scramble, "corrupt: the header of the video cannot be read"),
    ],
)
def test_what_is_no_video_is_refused_by_code(mp4: bytes, damage: Callable[[bytes], bytes], said: str) -> None:
    with pytest.raises(ImageError) as caught:
        open_video(damage(mp4))
    assert str(caught.value).startswith(said)


def test_a_container_without_frames_is_refused(tmp_path: Path) -> None:
    content = write_video(tmp_path / "a.avi", 0, "MJPG").read_bytes()
    with pytest.raises(ImageError, match="no_frames: the video holds no frame that can be decoded"):
        open_video(content)


def test_frames_of_too_many_pixels_are_refused_before_they_are_decoded(mp4: bytes) -> None:
    with pytest.raises(ImageError, match=r"too_large: frames of 64 x 48 px, images\.max_pixels is 3071"):
        open_video(mp4, max_pixels=HEIGHT * WIDTH - 1)


class Failing(io.BytesIO):
    """A file whose store stops answering."""

    broken = False

    def read(self, size: int | None = -1) -> bytes:
        if self.broken:
            raise TransientError("the store is busy")
        return super().read(size)


def test_what_the_store_raises_comes_out_of_the_decoder_unharmed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unet_ray.images.video._MOST_BLOCKS", 1)
    noise = np.random.default_rng(0)
    content = write_video(
        tmp_path / "a.avi", 70, "MJPG", draw=lambda number: noise.integers(0, 255, (192, 256, 3), np.uint8)
    ).read_bytes()
    assert len(content) > 2 * 2**20
    source = Failing(content)
    source.broken = True
    with pytest.raises(TransientError, match="the store is busy"):
        Video(source, 2**20)
    source.broken = False
    video = Video(source, 2**20)
    video.read(0)
    source.broken = True
    with pytest.raises(TransientError, match="the store is busy"):
        video.read(69)


def test_videos_are_known_by_their_endings() -> None:
    assert [is_video(key) for key in ("a/b.mp4", "a.MOV", "b.avi", "c.mkv", "d.mp4.png", "mp4")] == [
        True, True, True, True, False, False
    ]  # fmt: skip


def test_a_frame_that_was_written_twice_is_found(tmp_path: Path) -> None:
    def draw(number: int) -> np.ndarray:
        shown = number if number < 15 else number - 1
        return np.roll(gradient(240, 320), 4 * shown, axis=1)

    video = open_video(write_video(tmp_path / "a.mp4", 31, draw=draw).read_bytes(), max_pixels=10**6)
    thumbnails = [make_thumbnail(video.read(index)) for index in range(31)]
    assert find_repeats(iter(thumbnails)) == [15]
    assert frame_distance(thumbnails[14], thumbnails[15]) < 0.4
    assert frame_distance(thumbnails[13], thumbnails[14]) > 2
    assert find_repeats([]) == []
    assert make_thumbnail(draw_number(3)).shape == (32, 32, 3)
