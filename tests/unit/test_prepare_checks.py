from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.unit.image_files import POLICY, encode, gradient, palette_of
from tests.unit.tiny_dataset import CLASSES
from unet_ray import storage
from unet_ray.config_input import ImagesSection, LabelsSection
from unet_ray.errors import AccessError
from unet_ray.images.decode import decode_plain
from unet_ray.images.encode import decode_stored_mask
from unet_ray.images.resize import resize_image, resize_mask
from unet_ray.labels.scheme import make_class_map
from unet_ray.prepare import check_pairs
from unet_ray.schema import DATASET

IMAGE = gradient(6, 8)
MASK = np.array([[0] * 8, [1] * 8, [2] * 8, [11] * 8, [255] * 8, [1] * 8], np.uint8)


def planned(root: Path, image: bytes | None, mask: bytes | None, **changes: Any) -> dict[str, Any]:
    """Store a pair and return its planned row; None stands for a file that is not there any more."""
    row: dict[str, Any] = {
        "row_id": 7,
        "image_id": "images/a.png",
        "image_uri": f"{root}/a.png",
        "mask_uri": f"{root}/a_mask.png",
        "group": "a",
        "frame": None,
        "split": "train",
    }
    for uri, data in ((row["image_uri"], image), (row["mask_uri"], mask)):
        if data is not None:
            storage.write(uri, data)
    return row | changes


def check(
    row: dict[str, Any], *, resize: tuple[int, int] | None = None, policy: ImagesSection = POLICY
) -> dict[str, Any]:
    table = check_pairs([row], classes=CLASSES, policy=policy, resize=resize)
    assert table.schema == DATASET
    [checked] = table.to_pylist()
    return dict(checked)


def pixels_of(checked: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    image = decode_plain(checked["image"])
    return image, decode_stored_mask(checked["mask"], checked["height"], checked["width"], "png")


def test_a_good_pair_is_kept_byte_for_byte_with_its_counts(tmp_path: Path) -> None:
    data = encode(IMAGE, "PNG")
    checked = check(planned(tmp_path, data, encode(MASK, "PNG")))
    assert (checked["row_id"], checked["image_id"], checked["group"]) == (7, "images/a.png", "a")
    assert (checked["status"], checked["error_code"], checked["error_message"]) == ("ok", None, None)
    assert (checked["height"], checked["width"]) == (6, 8)
    assert checked["image"] == data
    assert pixels_of(checked)[1].tolist() == np.where(MASK == 11, 255, MASK).tolist()
    assert checked["class_pixels"] == [8, 16, 8]
    assert checked["ignored_pixels"] == 16
    wide = IMAGE.astype(np.int64).reshape(-1, 3)
    assert checked["channel_sum"] == wide.sum(axis=0).tolist()
    assert checked["channel_square_sum"] == (wide**2).sum(axis=0).tolist()


@pytest.mark.parametrize(
    "data",
    [
        encode(IMAGE, "TIFF"),
        encode(np.dstack([IMAGE, IMAGE[:, :, 0]]), "PNG"),
        encode(np.rot90(IMAGE), "PNG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"),
    ],
    ids=["TIFF", "alpha", "turned"],
)
def test_an_image_that_is_not_plain_is_stored_as_an_upright_png_of_the_same_pixels(tmp_path: Path, data: bytes) -> None:
    checked = check(planned(tmp_path, data, encode(MASK, "PNG")))
    assert checked["image"] != data
    assert checked["image"].startswith(b"\x89PNG")
    assert np.array_equal(pixels_of(checked)[0], IMAGE)


def test_a_resized_pair_is_counted_after_resizing(tmp_path: Path) -> None:
    checked = check(planned(tmp_path, encode(IMAGE, "PNG"), encode(MASK, "PNG")), resize=(3, 4))
    image, mask = pixels_of(checked)
    ids = np.where(MASK == 11, 255, MASK).astype(np.uint8)
    assert np.array_equal(image, resize_image(IMAGE, 3, 4))
    assert np.array_equal(mask, resize_mask(ids, 3, 4))
    assert (checked["height"], checked["width"]) == (3, 4)
    assert sum(checked["class_pixels"]) + checked["ignored_pixels"] == 12
    assert checked["channel_sum"] == image.reshape(-1, 3).astype(int).sum(axis=0).tolist()


def test_a_pair_of_the_wanted_size_is_not_encoded_again(tmp_path: Path) -> None:
    data = encode(IMAGE, "JPEG")
    assert check(planned(tmp_path, data, encode(MASK, "PNG")), resize=(6, 8))["image"] == data


def test_sums_of_a_bright_frame_do_not_overflow(tmp_path: Path) -> None:
    white, mask = np.full((90, 400, 3), 255, np.uint8), np.ones((90, 400), np.uint8)
    row = planned(tmp_path, encode(white, "PNG"), encode(mask, "PNG"))
    checked = check(row, policy=ImagesSection(max_pixels=36_000, max_bytes=10**6))
    assert checked["channel_sum"] == [255 * 36_000] * 3
    assert checked["channel_square_sum"] == [255**2 * 36_000] * 3
    assert 255**2 * 36_000 > 2**31


GOOD, GOOD_MASK = encode(IMAGE, "PNG"), encode(MASK, "PNG")


@pytest.mark.parametrize(
    ("image", "mask", "code", "message"),
    [
        (b"", GOOD_MASK, "empty_object", "the file has 0 bytes"),
        (b"hello", GOOD_MASK, "not_an_image", "not a PNG, JPEG or TIFF file: it starts with b'hello'"),
        (GOOD[:-20], GOOD_MASK, "truncated", f"the PNG ends after {len(GOOD) - 20} bytes, before its end"),
        (None, GOOD_MASK, "missing_image", "could not read ROOT/a.png: there is no such file or folder"),
        (GOOD, None, "missing_mask", "mask ROOT/a_mask.png: could not read ROOT/a_mask.png: there is no such file"),
        (GOOD, b"", "empty_object", "mask ROOT/a_mask.png: the file has 0 bytes"),
        (GOOD, GOOD, "colour_mask", "mask ROOT/a_mask.png: the mask holds colours, not class ids"),
        (GOOD, encode(MASK, "JPEG"), "lossy_mask", "mask ROOT/a_mask.png: the mask is a JPEG"),
        (GOOD, encode(MASK + 1, "PNG"), "class_id_out_of_range", "mask ROOT/a_mask.png: values 3 (8 px), 12 (8 px);"),
        (GOOD, encode(MASK[:, :7], "PNG"), "mask_size_mismatch", "image 6 x 8, mask 6 x 7 px (height x width)"),
        (GOOD, encode(MASK.T, "PNG"), "mask_size_mismatch", "image 6 x 8, mask 8 x 6 px (height x width)"),
    ],
)
def test_a_bad_pair_is_a_quarantined_row_without_pixels(
    tmp_path: Path, image: bytes | None, mask: bytes | None, code: str, message: str
) -> None:
    checked = check(planned(tmp_path, image, mask))
    assert (checked["row_id"], checked["image_id"], checked["split"]) == (7, "images/a.png", "train")
    assert (checked["status"], checked["error_code"]) == ("quarantined", code)
    assert checked["error_message"].replace(str(tmp_path), "ROOT").startswith(message)
    assert {name for name, value in checked.items() if value is None} == {
        *("frame", "image", "mask", "height", "width"),
        *("class_pixels", "ignored_pixels", "channel_sum", "channel_square_sum"),
    }


def test_an_image_without_a_mask_says_what_to_do(tmp_path: Path) -> None:
    checked = check(planned(tmp_path, GOOD, None, mask_uri=None))
    assert checked["error_code"] == "missing_mask"
    assert (
        checked["error_message"] == "no mask of this name; add it, or leave such images out with data.unlabelled: skip"
    )


@pytest.mark.parametrize(("what", "prefix"), [("image", ""), ("mask", "mask ROOT/a_mask.png: ")])
def test_a_file_that_was_listed_too_large_is_not_even_read(tmp_path: Path, what: str, prefix: str) -> None:
    row = planned(tmp_path, GOOD, GOOD_MASK, **{f"{what}_bytes": 10**12})
    (tmp_path / row[f"{what}_uri"]).unlink()
    checked = check(row)
    assert checked["error_code"] == "too_large"
    found = checked["error_message"].replace(str(tmp_path), "ROOT")
    assert found == f"{prefix}1000000000000 bytes, images.max_bytes is {POLICY.max_bytes}"


def test_what_the_user_can_repair_stops_the_job_instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(uri: str, *, etag: str | None = None) -> bytes:
        raise AccessError(f"could not read {uri}: the store refused access")

    monkeypatch.setattr(storage, "read_bytes", refuse)
    with pytest.raises(AccessError):
        check(planned(tmp_path, None, None))


def check_labels_of(root: Path, mask: bytes, **labels: Any) -> dict[str, Any]:
    classes = make_class_map(LabelsSection(**labels))
    [row] = check_pairs([planned(root, GOOD, mask)], classes=classes, policy=POLICY, resize=None).to_pylist()
    return dict(row)


def ids_of(checked: dict[str, Any]) -> list[list[int]]:
    assert checked["status"] == "ok", checked["error_message"]
    return decode_stored_mask(checked["mask"], checked["height"], checked["width"], "png").tolist()


IDS = np.array([[0] * 8, [1] * 8, [2] * 8, [2] * 8, [1] * 8, [0] * 8], np.uint8)
RED = np.dstack([IDS, IDS * 0, IDS * 0])
NAMED: dict[str, Any] = {"classes": ("a", "b", "c"), "palette": ((10, 0, 0), (0, 90, 0), (0, 0, 200))}


def test_palette_masks_give_their_indices_as_ids_and_their_colours_as_colours(tmp_path: Path) -> None:
    colours = [value for colour in NAMED["palette"] for value in colour]
    mask = encode(palette_of(IDS, colours), "PNG")
    assert ids_of(check_labels_of(tmp_path, mask, **NAMED)) == IDS.tolist()
    assert ids_of(check_labels_of(tmp_path, mask, **NAMED, scheme="colours")) == IDS.tolist()


def test_ids_in_a_channel_are_read_from_files_that_keep_them(tmp_path: Path) -> None:
    section = {"classes": ("a", "b", "c"), "scheme": "channel"}
    assert ids_of(check_labels_of(tmp_path, encode(RED, "PNG"), **section)) == IDS.tolist()
    lossy = check_labels_of(tmp_path, encode(RED, "JPEG"), **section)
    assert lossy["error_code"] == "lossy_mask"
    deep = cv2.imencode(".png", RED[:, :, ::-1].astype(np.uint16))[1].tobytes()
    refused = check_labels_of(tmp_path, deep, **section)
    assert refused["error_code"] == "unsupported_mode"
    assert "16 bits a channel; store ids in channels of 8 bits" in refused["error_message"]


def test_bins_of_a_jpeg_are_read(tmp_path: Path) -> None:
    bright = np.full((6, 8, 3), 130, np.uint8)
    assert ids_of(check_labels_of(tmp_path, encode(bright, "JPEG"), scheme="bins")) == [[6] * 8] * 6


def test_an_unknown_colour_quarantines_its_pair_and_not_the_next(tmp_path: Path) -> None:
    mask = np.array(NAMED["palette"], np.uint8)[IDS]
    assert ids_of(check_labels_of(tmp_path, encode(mask, "PNG"), **NAMED, scheme="colours")) == IDS.tolist()
    mask[0, :3] = (1, 2, 3)
    refused = check_labels_of(tmp_path, encode(mask, "PNG"), **NAMED, scheme="colours")
    assert (refused["status"], refused["error_code"], refused["mask"]) == ("quarantined", "unknown_colour", None)
    assert "colours (1, 2, 3) (3 px) are not known (labels.palette, labels.max_distance)" in refused["error_message"]
    near = check_labels_of(tmp_path, encode(mask, "PNG"), **NAMED, scheme="colours", max_distance="any")
    assert ids_of(near) == IDS.tolist()
