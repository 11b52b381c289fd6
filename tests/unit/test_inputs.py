import io
import os
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.listed_files import list_folder
from unet_ray.datasets.inputs import add_list
from unet_ray.datasets.listing import Listing, Row
from unet_ray.errors import DatasetError, UnetRayError


def touch(root: Path, *keys: str) -> None:
    for key in keys:
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(key.encode())


def list_pairs(uri: str) -> list[Row]:
    with Listing() as listing:
        add_list(listing, uri)
        return list(listing.rows())


def pairs(rows: list[Row], root: Path) -> list[tuple[str, str | None]]:
    return [(row["image_id"], row["mask_uri"] and row["mask_uri"].removeprefix(f"{root}/")) for row in rows]


def test_images_are_paired_with_the_masks_of_the_same_relative_name(tmp_path: Path) -> None:
    touch(tmp_path, "images/a/10.jpg", "images/a/2.png", "images/b/2.TIF", "images/lone.png")
    touch(tmp_path, "masks/a/10.png", "masks/a/2.png", "masks/b/2.png")
    rows, _ = list_folder(f"{tmp_path}/images", f"{tmp_path}/masks", prefix="images/", split="train")
    assert pairs(rows, tmp_path) == [
        ("images/a/2.png", "masks/a/2.png"),
        ("images/a/10.jpg", "masks/a/10.png"),
        ("images/b/2.TIF", "masks/b/2.png"),
        ("images/lone.png", None),
    ]


def test_a_row_tells_all_that_the_plan_needs(tmp_path: Path) -> None:
    touch(tmp_path, "images/a/10.jpg", "masks/a/10.png")
    [row], _ = list_folder(f"{tmp_path}/images", f"{tmp_path}/masks", prefix="images/", split="val")
    assert row.pop("image_etag") != row.pop("mask_etag")
    assert row == {
        "image_id": "images/a/10.jpg",
        "image_uri": f"{tmp_path}/images/a/10.jpg",
        "image_bytes": len("images/a/10.jpg"),
        "mask_uri": f"{tmp_path}/masks/a/10.png",
        "mask_bytes": len("masks/a/10.png"),
        "group": "a",
        "frame": 10,
        "frame_index": None,
        "split": "val",
    }


def test_a_suffix_is_part_of_the_masks_names_only(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", "images/b_L.png", "masks/a_L.png", "masks/b_L_L.png", "masks/c.png")
    rows, _ = list_folder(f"{tmp_path}/images", f"{tmp_path}/masks", mask_suffix="_L")
    assert pairs(rows, tmp_path) == [("a.png", "masks/a_L.png"), ("b_L.png", "masks/b_L_L.png")]


@pytest.mark.parametrize("other", ["JPG", "jpeg", "tif"])
def test_of_two_masks_of_one_name_the_png_is_taken(tmp_path: Path, other: str) -> None:
    touch(tmp_path, "images/a.jpg", "masks/a.PNG", f"masks/a.{other}")
    rows, _ = list_folder(f"{tmp_path}/images", f"{tmp_path}/masks")
    assert pairs(rows, tmp_path) == [("a.jpg", "masks/a.PNG")]


def test_dots_in_a_name_are_part_of_it(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.1.png", "images/a.2.png", "masks/a.2.png", "masks/a.png")
    rows, found = list_folder(f"{tmp_path}/images", f"{tmp_path}/masks")
    assert pairs(rows, tmp_path) == [("a.1.png", None), ("a.2.png", "masks/a.2.png")]
    assert found["unpaired_examples"] == [f"{tmp_path}/masks/a.png"]


def test_what_is_left_out_is_counted_with_five_examples(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", *(f"images/{letter}.txt" for letter in "gfedcba"))
    touch(tmp_path, "masks/a.png", *(f"masks/{letter}.png" for letter in "zyxwvu"))
    _, found = list_folder(f"{tmp_path}/images", f"{tmp_path}/masks")
    assert found == {
        "images": 1,
        "repeated_images": 0,
        "skipped_objects": 7,
        "skipped_examples": [f"{tmp_path}/images/{letter}.txt" for letter in "abcde"],
        "unpaired_masks": 6,
        "unpaired_examples": [f"{tmp_path}/masks/{letter}.png" for letter in "uvwxy"],
        "images_without_mask": 0,
        "without_mask_examples": [],
    }


def test_a_folder_without_images_says_what_it_holds(tmp_path: Path) -> None:
    touch(tmp_path, "images/notes.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        DatasetError, match=r"0 images under .*images: it holds 1 other objects, such as .*images/notes\.txt; PNG,"
    ):
        list_folder(f"{tmp_path}/images", None)
    with pytest.raises(DatasetError, match=r"0 images under .*empty: it holds nothing; PNG, JPEG and TIFF"):
        list_folder(f"{tmp_path}/empty", None)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png")
    with pytest.raises(DatasetError, match=r"nowhere: no such folder; check data\.root, data\.images and data\.masks"):
        list_folder(f"{tmp_path}/nowhere", None)
    with pytest.raises(DatasetError, match=r"nowhere: no such folder"):
        list_folder(f"{tmp_path}/images", f"{tmp_path}/nowhere")


def test_masks_may_lie_beside_their_images(tmp_path: Path) -> None:
    touch(tmp_path, "all/a.jpg", "all/a_mask.png", "all/a_mask.tif", "all/s/b.png", "all/s/b_mask.png")
    touch(tmp_path, "all/lone_mask.png", "all/c.png")
    rows, found = list_folder(f"{tmp_path}/all", f"{tmp_path}/all/", mask_suffix="_mask", prefix="all/")
    assert pairs(rows, tmp_path) == [
        ("all/a.jpg", "all/a_mask.png"),
        ("all/c.png", None),
        ("all/s/b.png", "all/s/b_mask.png"),
    ]
    assert (found["images"], found["unpaired_examples"]) == (3, [f"{tmp_path}/all/lone_mask.png"])


@pytest.mark.parametrize(
    ("images", "masks"), [("_rgb", "_seg"), ("", "_seg"), ("_rgb", ""), ("_a_seg", "_seg"), ("_seg", "_a_seg")]
)
def test_in_one_folder_suffixes_tell_images_and_masks_apart(tmp_path: Path, images: str, masks: str) -> None:
    touch(tmp_path, f"15{images}.jpg", f"15{masks}.png", f"9{images}.jpg", f"7{masks}.png", "9_depth.txt")
    rows, found = list_folder(str(tmp_path), str(tmp_path), image_suffix=images, mask_suffix=masks)
    assert pairs(rows, tmp_path) == [(f"9{images}.jpg", None), (f"15{images}.jpg", f"15{masks}.png")]
    assert found["unpaired_examples"] == [f"{tmp_path}/7{masks}.png"]
    assert found["skipped_examples"] == [f"{tmp_path}/9_depth.txt"]


@pytest.mark.parametrize("suffix", ["", "_x"])
def test_images_and_masks_that_nothing_tells_apart_are_refused(tmp_path: Path, suffix: str) -> None:
    touch(tmp_path, "a_x.jpg", "a_x.png")
    with pytest.raises(DatasetError, match=r"images and masks lie in one folder, .*; set data\.mask_suffix to what"):
        list_folder(str(tmp_path), f"{tmp_path}/", image_suffix=suffix, mask_suffix=suffix)


def test_masks_in_a_folder_of_the_images_are_not_images(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "2.jpg", "masks/a/1.png", "masks/2.png", "masks/3.png", "masks_old/2.png")
    rows, found = list_folder(str(tmp_path), f"{tmp_path}/masks")
    assert pairs(rows, tmp_path) == [
        ("2.jpg", "masks/2.png"),
        ("a/1.png", "masks/a/1.png"),
        ("masks_old/2.png", None),
    ]
    assert found["unpaired_examples"] == [f"{tmp_path}/masks/3.png"]


def test_images_in_a_folder_of_the_masks_are_not_masks(tmp_path: Path) -> None:
    touch(tmp_path, "images/1.jpg", "images/2.jpg", "1.png", "2.png")
    rows, found = list_folder(f"{tmp_path}/images", str(tmp_path), prefix="images/")
    assert pairs(rows, tmp_path) == [("images/1.jpg", "1.png"), ("images/2.jpg", "2.png")]
    assert found["unpaired_masks"] == 0


def test_two_images_of_one_name_and_mask_are_refused_by_name(tmp_path: Path) -> None:
    touch(tmp_path, "images/s/a.jpg", "images/s/a.png", "images/b.jpg", "masks/s/a.png", "masks/b.png")
    with pytest.raises(DatasetError) as caught:
        list_folder(f"{tmp_path}/images", f"{tmp_path}/masks")
    names = f"{tmp_path}/images/s/a.jpg and {tmp_path}/images/s/a.png have one mask, {tmp_path}/masks/s/a.png"
    assert str(caught.value) == f"{names}; keep one of them, or rename it"
    rows, _ = list_folder(f"{tmp_path}/images", None)
    assert [row["image_id"] for row in rows] == ["b.jpg", "s/a.jpg", "s/a.png"]


def test_images_without_the_suffix_are_counted_and_none_is_an_error(tmp_path: Path) -> None:
    touch(tmp_path, "images/1_rgb.png", "images/1_depth.png", "masks/1_seg.png")
    _, found = list_folder(f"{tmp_path}/images", f"{tmp_path}/masks", image_suffix="_rgb", mask_suffix="_seg")
    assert found["skipped_examples"] == [f"{tmp_path}/images/1_depth.png"]
    with pytest.raises(
        DatasetError,
        match=r"0 images under .* it holds 2 other .*files whose names end with '_ir' \(data\.image_suffix\)",
    ):
        list_folder(f"{tmp_path}/images", f"{tmp_path}/masks", image_suffix="_ir")


def test_masks_none_of_which_is_of_an_image_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", "images/b.png", "masks/a_L.png")
    with pytest.raises(
        DatasetError,
        match=r"0 of 2 images under .*images have a mask under .*masks; check .*suffix, which are '' and '_gt'",
    ):
        list_folder(f"{tmp_path}/images", f"{tmp_path}/masks", mask_suffix="_gt")


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems refuse such names")
def test_a_name_that_no_table_can_hold_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png")
    (tmp_path / "images" / os.fsdecode(b"b\xff.png")).touch()
    with pytest.raises(DatasetError, match=r"images/b\\udcff\.png': the name is not UTF-8, so no table can hold it"):
        list_folder(f"{tmp_path}/images", None)


CSV = """image,mask,split,group,frame
a/1.png,b/1.png,train,left,7
s3://bucket/x_12.png,/masks/x.png,val,right,
file:///frames/y.png,,test,0,12.0
"""
READ = [
    ("a/1.png", "ROOT/a/1.png", "ROOT/b/1.png", "train", "left", 7),
    ("s3://bucket/x_12.png", "s3://bucket/x_12.png", "/masks/x.png", "val", "right", 12),
    ("file:///frames/y.png", "file:///frames/y.png", None, "test", "0", 12),
]


def read_list(path: Path) -> list[tuple[Any, ...]]:
    keys = ("image_id", "image_uri", "mask_uri", "split", "group", "frame")
    found = [tuple(row[key] for key in keys) for row in list_pairs(str(path))]
    here = str(path.parent)
    return [tuple(cell.replace(here, "ROOT") if isinstance(cell, str) else cell for cell in row) for row in found]


@pytest.mark.parametrize(
    "content",
    [
        CSV.encode(),
        b"\xef\xbb\xbf" + CSV.encode(),
        CSV.replace("\n", "\r\n").encode(),
        CSV.replace("\n", "\r").encode(),
    ],
    ids=["plain", "byte order mark", "CRLF", "CR"],
)
def test_a_csv_list_is_read_relative_to_its_folder(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "pairs.csv").write_bytes(content)
    assert read_list(tmp_path / "pairs.csv") == READ


def test_a_parquet_list_reads_like_a_csv_one(tmp_path: Path) -> None:
    table = pa.table(
        {
            "image": [image for image, *_ in READ],
            "mask": ["b/1.png", "/masks/x.png", None],
            "split": ["train", "val", "test"],
            "group": ["left", "right", "0"],
            "frame": [7.0, None, 12.0],
        }
    )
    pq.write_table(table, tmp_path / "pairs.parquet")
    assert read_list(tmp_path / "pairs.parquet") == READ


def test_a_list_in_the_working_directory_may_be_named_without_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pairs.csv").write_text("image,mask\na.png,b/c.png\n")
    [row] = list_pairs("pairs.csv")
    assert (row["image_uri"], row["mask_uri"]) == ("a.png", "b/c.png")


def test_a_group_may_be_a_number(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": ["a.png", "b.png"], "group": [0, 3]}), tmp_path / "pairs.parquet")
    assert [row["group"] for row in list_pairs(f"{tmp_path}/pairs.parquet")] == ["0", "3"]


def parquet(**columns: list[Any]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "the list has no rows"),
        ("a.csv", b"image,mask\n", "the list has no rows"),
        ("a.csv", b"image;mask\na.png;b.png\n", "row 1: unknown column 'image;mask'; columns are image, mask, split,"),
        ("a.csv", b"image,mask\na.png,b.png,c\n", "row 1: more cells than columns; columns are image, mask,"),
        ("a.csv", b"mask\nb.png\n", "row 1: no image; columns are image, mask, split, group, frame"),
        ("a.csv", b"image,mask\na.png,b.png\n,b.png\n", "row 2: no image"),
        (
            "a.csv",
            b"image,mask\na.png,https://h/b.png?X-Amz-Signature=abc\n",
            "row 1: a URI holds a password or a signature",
        ),
        ("a.csv", b"image\ns3://key:word@h/a.png\n", "row 1: a URI holds a password"),
        ("a.csv", b"image,frame\na.png,x\n", "row 1: frame 'x' is not a whole number"),
        ("a.csv", b"image,frame\na.png,1.5\n", "row 1: frame '1.5' is not a whole number"),
        ("a.csv", b"image,frame\na.png,99999999999999999999\n", "row 1: frame '99999999999999999999' is not"),
        ("a.csv", "image,mask\n".encode("utf-16"), "not a readable CSV or Parquet list: 'utf-8' codec"),
        ("a.csv", b"image\n" + b"x" * 200_000, "not a readable CSV or Parquet list: field larger"),
        ("a.parquet", b"PAR1", "not a readable CSV or Parquet list: "),
        ("a.parquet", parquet(image=[1, 2]), "row 1: no image"),
        ("a.parquet", parquet(image=["a.png"], frame=[float("nan")]), "row 1: frame nan is not a whole number"),
    ],
)
def test_a_list_that_cannot_be_used_names_the_row_and_the_fault(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetError) as caught:
        list_pairs(f"{tmp_path}/{name}")
    assert str(caught.value).startswith(f"{tmp_path}/{name}: {message}")


def test_a_list_that_goes_bad_late_names_the_row(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("image\n" + "".join(f"{number}.png\n" for number in range(9000)) + '""\n')
    with pytest.raises(DatasetError, match=r"a\.csv: row 9001: no image"):
        list_pairs(f"{tmp_path}/a.csv")


def test_a_damaged_page_of_a_parquet_list_is_an_error_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(parquet(image=[f"{number}.png" for number in range(9000)]))
    data = bytearray(path.read_bytes())
    data[4:200] = bytes(196)
    path.write_bytes(data)
    with pytest.raises(UnetRayError, match=r"a\.parquet: "):
        list_pairs(str(path))


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"none\.csv: no such list; data\.root takes the URI of a CSV or Parquet file"
    ):
        list_pairs(f"{tmp_path}/none.csv")
