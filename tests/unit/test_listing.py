import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unet_ray.datasets.listing import Listing, Row, assign_splits, list_folder, list_pairs
from unet_ray.errors import DatasetError


def touch(root: Path, *keys: str) -> None:
    for key in keys:
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(key.encode())


def pairs(listing: Listing, root: Path) -> list[tuple[str, str | None]]:
    return [(row["image_id"], row["mask_uri"] and row["mask_uri"].removeprefix(f"{root}/")) for row in listing.rows]


def rows_of(image_ids: list[str]) -> list[Row]:
    return [{"image_id": image_id, "group": image_id.partition("/")[0]} for image_id in image_ids]


def splits(rows: list[Row]) -> dict[str, str]:
    return {row["image_id"]: row["split"] for row in rows}


def test_images_are_paired_with_the_masks_of_the_same_relative_name(tmp_path: Path) -> None:
    touch(tmp_path, "images/a/10.jpg", "images/a/2.png", "images/b/2.TIF", "images/lone.png")
    touch(tmp_path, "masks/a/10.png", "masks/a/2.png", "masks/b/2.png")
    listing = list_folder(f"{tmp_path}/images", f"{tmp_path}/masks", prefix="images/", split="train")
    assert pairs(listing, tmp_path) == [
        ("images/a/2.png", "masks/a/2.png"),
        ("images/a/10.jpg", "masks/a/10.png"),
        ("images/b/2.TIF", "masks/b/2.png"),
        ("images/lone.png", None),
    ]


def test_a_row_tells_all_that_the_plan_needs(tmp_path: Path) -> None:
    touch(tmp_path, "images/a/10.jpg", "masks/a/10.png")
    [row] = list_folder(f"{tmp_path}/images", f"{tmp_path}/masks", prefix="images/", split="val").rows
    assert row.pop("image_etag") != row.pop("mask_etag")
    assert row == {
        "image_id": "images/a/10.jpg",
        "image_uri": f"{tmp_path}/images/a/10.jpg",
        "image_bytes": len("images/a/10.jpg"),
        "mask_uri": f"{tmp_path}/masks/a/10.png",
        "mask_bytes": len("masks/a/10.png"),
        "group": "a",
        "frame": 10,
        "split": "val",
    }


def test_a_suffix_is_part_of_the_masks_names_only(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", "images/b_L.png", "masks/a_L.png", "masks/b_L_L.png", "masks/c.png")
    listing = list_folder(f"{tmp_path}/images", f"{tmp_path}/masks", mask_suffix="_L")
    assert pairs(listing, tmp_path) == [("a.png", "masks/a_L.png"), ("b_L.png", "masks/b_L_L.png")]


@pytest.mark.parametrize("other", ["JPG", "jpeg", "tif"])
def test_of_two_masks_of_one_name_the_png_is_taken(tmp_path: Path, other: str) -> None:
    touch(tmp_path, "images/a.jpg", "masks/a.PNG", f"masks/a.{other}")
    listing = list_folder(f"{tmp_path}/images", f"{tmp_path}/masks")
    assert pairs(listing, tmp_path) == [("a.jpg", "masks/a.PNG")]


def test_dots_in_a_name_are_part_of_it(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.1.png", "images/a.2.png", "masks/a.2.png", "masks/a.png")
    listing = list_folder(f"{tmp_path}/images", f"{tmp_path}/masks")
    assert pairs(listing, tmp_path) == [("a.1.png", None), ("a.2.png", "masks/a.2.png")]
    assert listing.unpaired_masks == ["a.png"]


def test_what_is_left_out_is_counted_with_five_examples(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", *(f"images/{letter}.txt" for letter in "gfedcba"))
    touch(tmp_path, "masks/a.png", *(f"masks/{letter}.png" for letter in "zyxwvu"))
    summary = list_folder(f"{tmp_path}/images", f"{tmp_path}/masks").summary()
    assert summary == {
        "images": 1,
        "skipped_objects": 7,
        "skipped_examples": ["a.txt", "b.txt", "c.txt", "d.txt", "e.txt"],
        "unpaired_masks": 6,
        "unpaired_examples": ["u.png", "v.png", "w.png", "x.png", "y.png"],
    }


def test_a_folder_without_images_says_what_it_holds(tmp_path: Path) -> None:
    touch(tmp_path, "images/notes.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        DatasetError, match=r"0 images under .*images: it holds 1 other objects, such as notes\.txt; PNG,"
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
    found = [tuple(row[key] for key in keys) for row in list_pairs(str(path)).rows]
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
    [row] = list_pairs("pairs.csv").rows
    assert (row["image_uri"], row["mask_uri"]) == ("a.png", "b/c.png")


def test_a_group_may_be_a_number(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": ["a.png", "b.png"], "group": [0, 3]}), tmp_path / "pairs.parquet")
    assert [row["group"] for row in list_pairs(f"{tmp_path}/pairs.parquet").rows] == ["0", "3"]


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


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"none\.csv: no such list; data\.pairs takes the URI of a CSV or Parquet file"
    ):
        list_pairs(f"{tmp_path}/none.csv")


def test_a_hash_split_is_the_same_in_every_release() -> None:
    rows = rows_of([f"images/{number}.png" for number in range(10)])
    assign_splits(rows, "hash", 0, 0.3, 0.2)
    assert [row["split"] for row in rows] == [
        "test", "val", "train", "test", "train", "test", "train", "val", "train", "val",
    ]  # fmt: skip


def test_a_hash_split_takes_about_its_shares() -> None:
    rows = rows_of([f"images/{number}.png" for number in range(4000)])
    assign_splits(rows, "hash", 1, 0.2, 0.1)
    found = list(splits(rows).values())
    assert found.count("val") == pytest.approx(800, abs=80)
    assert found.count("test") == pytest.approx(400, abs=60)


def test_an_image_keeps_its_hash_split_when_others_come_and_go() -> None:
    few, many = (rows_of([f"images/{number}.png" for number in range(0, 200, step)]) for step in (5, 1))
    assign_splits(few, "hash", 3, 0.25, 0.25)
    assign_splits(many[::-1], "hash", 3, 0.25, 0.25)
    assert splits(few).items() <= splits(many).items()


def test_another_seed_splits_otherwise() -> None:
    one, other = (rows_of([f"images/{number}.png" for number in range(50)]) for _ in range(2))
    assign_splits(one, "hash", 0, 0.5, 0.0)
    assign_splits(other, "hash", 1, 0.5, 0.0)
    assert splits(one) != splits(other)


@pytest.mark.parametrize("how", ["hash", "group"])
def test_without_fractions_everything_trains(how: str) -> None:
    rows = rows_of([f"{number}/a.png" for number in range(20)])
    assign_splits(rows, how, 0, 0.0, 0.0)
    assert set(splits(rows).values()) == {"train"}


def test_a_group_is_never_in_two_splits() -> None:
    rows = rows_of([f"{group}/{frame}.png" for frame in range(5) for group in range(10)])
    assign_splits(rows, "group", 0, 0.2, 0.1)
    by_group = {row["group"]: {other["split"] for other in rows if other["group"] == row["group"]} for row in rows}
    assert all(len(found) == 1 for found in by_group.values())
    assert sorted(split for (split,) in by_group.values()) == ["test"] + ["train"] * 7 + ["val"] * 2


def test_a_share_of_less_than_a_group_is_a_whole_one() -> None:
    rows = rows_of([f"{group}/1.png" for group in range(3)])
    assign_splits(rows, "group", 0, 0.01, 0.01)
    assert sorted(splits(rows).values()) == ["test", "train", "val"]


def test_too_few_groups_are_refused() -> None:
    rows = rows_of(["a/1.png", "a/2.png", "b/1.png"])
    with pytest.raises(
        DatasetError,
        match=r"data\.split: group needs more groups than the 2 for val and test, found 2 \([ab], [ab]\); use",
    ):
        assign_splits(rows, "group", 0, 0.2, 0.2)
