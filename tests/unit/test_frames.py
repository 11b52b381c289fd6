from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.unit.image_files import LIMITS
from tests.unit.tiny_dataset import CLASSES, list_pairs_of
from unet_ray.datasets.frames import FRAMES, load_frames, read_frame
from unet_ray.datasets.prepared import index_split, open_dataset
from unet_ray.errors import ImageError


def planned_of(folder: Path) -> list[dict[str, Any]]:
    rows = list_pairs_of(folder)
    return [row | {"row_id": number, "part_uri": None, "part_row": None} for number, row in enumerate(rows)]


def test_frames_from_files_carry_pixels_ids_and_faults(pairs_folder: Path) -> None:
    table = load_frames(planned_of(pairs_folder), classes=CLASSES, limits=LIMITS)
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
        stored, from_files = (read_frame(it, CLASSES, LIMITS) for it in (located, files[row["image_id"]]))
        assert np.array_equal(stored[0], from_files[0])
        assert stored[1] is not None
        assert from_files[1] is not None
        assert np.array_equal(stored[1], from_files[1])


def test_a_mask_that_does_not_fit_is_refused_when_a_frame_is_read(pairs_folder: Path) -> None:
    small, large = planned_of(pairs_folder)[1], planned_of(pairs_folder)[0]
    with pytest.raises(ImageError, match="mask_size_mismatch: image 16 x 24, mask 16 x 28 px"):
        read_frame(small | {name: large[name] for name in ("mask_uri", "mask_etag")}, CLASSES, LIMITS)


def test_a_file_that_changed_after_it_was_planned_is_refused_by_name(pairs_folder: Path) -> None:
    row = planned_of(pairs_folder)[0]
    for what in ("image", "mask"):
        path = Path(row[f"{what}_uri"])
        content = path.read_bytes()
        path.write_bytes(content + b"more")
        with pytest.raises(ImageError, match=f"changed_{what}: .*{path.name}: the file changed since it was listed"):
            read_frame(row, CLASSES, LIMITS)
        path.write_bytes(content)
        row = planned_of(pairs_folder)[0]
