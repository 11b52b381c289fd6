from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.unit.image_files import POLICY, encode, exif, rotated
from tests.unit.tiny_dataset import CLASSES, list_pairs_of
from unet_ray.datasets.frames import FRAMES, load_frames, read_frame
from unet_ray.datasets.prepared import index_split, open_dataset
from unet_ray.errors import ImageError


def planned_of(folder: Path) -> list[dict[str, Any]]:
    rows = list_pairs_of(folder)
    return [row | {"row_id": number, "part_uri": None, "part_row": None} for number, row in enumerate(rows)]


def test_frames_from_files_carry_pixels_ids_and_faults(pairs_folder: Path) -> None:
    table = load_frames(planned_of(pairs_folder), classes=CLASSES, policy=POLICY)
    assert table.schema == FRAMES
    rows = table.to_pylist()
    assert [row["row_id"] for row in rows] == list(range(22))
    for row in rows:
        if row["image_id"] == "images/right/3.png":
            assert row["error_code"] == "truncated"
            assert (row["image"], row["true_mask"], row["height"]) == (None, None, None)
            continue
        assert (row["error_code"], row["error_message"]) == (None, None)
        image = np.frombuffer(row["image"], np.uint8).reshape(row["height"], row["width"], 3)
        assert np.array_equal(image, np.asarray(Image.open(pairs_folder / row["image_id"])))
        if row["image_id"] == "images/right/5.png":
            assert row["true_mask"] is None
        else:
            mask = np.frombuffer(row["true_mask"], np.uint8).reshape(row["height"], row["width"])
            assert (mask == 255).sum() == 2 * row["width"]
            assert (mask == 2).sum() == row["frame"]


def test_a_frame_of_a_dataset_is_the_frame_of_its_files(dataset_uri: str, pairs_folder: Path) -> None:
    prepared = open_dataset(dataset_uri)
    parts, files = prepared.table.part_uris(), {row["image_id"]: row for row in planned_of(pairs_folder)}
    for row in index_split(prepared, "train").to_pylist():
        located = row | {"part_uri": parts[row["part"]], "mask_uri": None}
        stored, from_files = (read_frame(it, CLASSES, POLICY) for it in (located, files[row["image_id"]]))
        assert np.array_equal(stored[0], from_files[0])
        assert stored[1] is not None
        assert from_files[1] is not None
        assert np.array_equal(stored[1], from_files[1])


def test_a_mask_that_does_not_fit_is_refused_when_a_frame_is_read(pairs_folder: Path) -> None:
    small, large = planned_of(pairs_folder)[1], planned_of(pairs_folder)[0]
    with pytest.raises(ImageError, match="mask_size_mismatch: image 16 x 24, mask 16 x 28 px"):
        read_frame(small | {name: large[name] for name in ("mask_uri", "mask_etag")}, CLASSES, POLICY)


@pytest.mark.parametrize("mask_has_the_tag", [True, False])
@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_and_its_mask_agree_under_every_orientation(
    tmp_path: Path, orientation: int, format: str, mask_has_the_tag: bool
) -> None:
    truth = np.zeros((24, 32), np.uint8)
    truth[:8] = 1
    truth[8:, :8] = 2
    image = np.array([[10, 10, 10], [120, 120, 120], [240, 240, 240]], np.uint8)[truth]
    stored = rotated(truth, orientation) if mask_has_the_tag else truth  # without the tag it was drawn upright
    tag = {"exif": exif(orientation)} if mask_has_the_tag else {}
    row = {"part_uri": None, "image_uri": f"{tmp_path}/image", "mask_uri": f"{tmp_path}/mask"}
    (tmp_path / "image").write_bytes(encode(rotated(image, orientation), format, exif=exif(orientation)))
    (tmp_path / "mask").write_bytes(encode(stored, "PNG", **tag))
    found, mask = read_frame(row, CLASSES, POLICY)
    assert mask is not None
    assert np.array_equal(mask, truth)
    assert np.array_equal(np.digitize(found.mean(axis=2), (65, 180)), mask)


def test_a_file_that_changed_after_it_was_planned_is_refused_by_name(pairs_folder: Path) -> None:
    row = planned_of(pairs_folder)[0]
    for what in ("image", "mask"):
        path = Path(row[f"{what}_uri"])
        content = path.read_bytes()
        path.write_bytes(content + b"more")
        with pytest.raises(ImageError, match=f"changed_{what}: .*{path.name}: the file changed since it was listed"):
            read_frame(row, CLASSES, POLICY)
        path.write_bytes(content)
        row = planned_of(pairs_folder)[0]
