import random
import resource
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from unet_ray.datasets.listing import Examples, Listing, Row
from unet_ray.errors import DatasetError, StorageError
from unet_ray.storage import ObjectInfo


def objects(root: str, *keys: str, etag: str = "etag") -> list[ObjectInfo]:
    return [ObjectInfo(key=key, uri=f"{root}/{key}", size_bytes=len(key), etag=etag) for key in keys]


def list_rows(image_ids: Iterable[str], **changes: Any) -> Iterator[Row]:
    for image_id in image_ids:
        group = image_id.partition("/")[0]
        row = {"image_id": image_id, "image_uri": f"s3://b/{image_id}", "mask_uri": None, "frame": None, "split": ""}
        yield row | {"group": group} | changes


def test_images_come_in_natural_order_whatever_order_they_are_listed_in() -> None:
    ordered = [f"{folder}/{number}.png" for folder in ("a2", "a10") for number in range(3000)]
    shuffled = random.Random(0).sample(ordered, len(ordered))
    with Listing() as listing:
        assert listing.add_folder(objects("s3://b/i", *shuffled), objects("s3://b/m", *reversed(ordered))) == 6000
        found = [(row["image_uri"], row["mask_uri"]) for row in listing.rows()]
    assert found == [(f"s3://b/i/{key}", f"s3://b/m/{key}") for key in ordered]


def test_rows_can_be_read_again_and_within_each_other() -> None:
    with Listing() as listing:
        listing.add_folder(objects("s3://b", "1.png", "2.png"), ())
        pairs = [(one["image_id"], other["image_id"]) for one in listing.rows() for other in listing.rows()]
    assert pairs == [("1.png", "1.png"), ("1.png", "2.png"), ("2.png", "1.png"), ("2.png", "2.png")]


def test_folders_keep_their_order_and_their_masks() -> None:
    with Listing() as listing:
        listing.add_folder(objects("s3://b/z", "1.png"), objects("s3://b/zm", "1.png"), prefix="z/", split="train")
        listing.add_folder(objects("s3://b/a", "1.png"), objects("s3://b/am", "1.png"), prefix="a/", split="val")
        rows = [(row["image_id"], row["mask_uri"], row["split"]) for row in listing.rows()]
    assert rows == [("z/1.png", "s3://b/zm/1.png", "train"), ("a/1.png", "s3://b/am/1.png", "val")]


def test_images_of_one_name_cannot_share_a_mask() -> None:
    with (
        Listing() as listing,
        pytest.raises(DatasetError, match=r"i/1\.jpg and s3://b/i/1\.png have one mask, s3://b/m"),
    ):
        listing.add_folder(objects("s3://b/i", "2.png", "1.png", "1.jpg"), objects("s3://b/m", "1.png", "2.png"))


def test_images_without_a_mask_can_be_left_out() -> None:
    names = [f"{number}.png" for number in range(9)]
    with Listing() as listing:
        listing.add_folder(objects("s3://b/i", *names), objects("s3://b/m", "3.png", "4.png"))
        listing.drop_unlabelled()
        assert [row["image_id"] for row in listing.rows()] == ["3.png", "4.png"]
        found = listing.summary()
    assert (found["images"], found["images_without_mask"]) == (2, 7)
    assert found["without_mask_examples"] == [f"s3://b/i/{number}.png" for number in (0, 1, 2, 5, 6)]


def test_images_can_be_their_own_masks() -> None:
    with Listing() as listing:
        listing.add_folder(objects("s3://b", "1.jpg", etag="e"), ())
        listing.pair_with_themselves()
        [row] = listing.rows()
    assert [row[f"{what}_{fact}"] for what in ("image", "mask") for fact in ("uri", "etag", "bytes")] == [
        *("s3://b/1.jpg", "e", 5)
    ] * 2


def test_an_image_that_a_store_lists_twice_is_one_row_and_counted() -> None:
    with Listing() as listing:
        assert listing.add_folder(objects("s3://b", "1.png", "2.png", "1.png"), objects("s3://m", "1.png")) == 2
        assert [row["image_id"] for row in listing.rows()] == ["1.png", "2.png"]
        assert (listing.num_rows, listing.summary()["repeated_images"]) == (2, 1)


def test_a_repeated_row_of_a_list_is_dropped_and_counted() -> None:
    with Listing() as listing:
        listing.add_list(list_rows(["c", "a", "c", "b", "a", "a"]), "list.csv")
        assert [row["image_id"] for row in listing.rows()] == ["c", "a", "b"]
        assert (listing.num_rows, listing.summary()["repeated_images"]) == (3, 3)


def test_one_image_under_two_names_of_a_list_keeps_the_first() -> None:
    rows = [*list_rows(["a.png"]), *list_rows(["s3://b/a.png"], image_uri="s3://b/a.png", group="a.png")]
    with Listing() as listing:
        listing.add_list(rows, "list.csv")
        assert [row["image_id"] for row in listing.rows()] == ["a.png"]


@pytest.mark.parametrize("changes", [{"mask_uri": "s3://b/m"}, {"group": "g"}, {"frame": 1}, {"split": "val"}])
def test_a_row_of_a_list_that_contradicts_an_earlier_one_is_refused(changes: dict[str, Any]) -> None:
    rows = [*list_rows(["a", "b", "a"]), *list_rows(["b"], **changes)]
    with (
        Listing() as listing,
        pytest.raises(DatasetError, match=r"^list\.csv: row 4: b is also in row 2, with another mask, group, frame or"),
    ):
        listing.add_list(rows, "list.csv")


def test_examples_are_the_first_by_name() -> None:
    examples, others = Examples(), Examples()
    for letter in "hgf":
        examples.add(letter)
    for letter in "edc":
        others.add(letter)
    examples.update(others)
    assert (examples.count, examples.uris) == (6, ["c", "d", "e", "f", "g"])


def test_a_pattern_replaces_the_groups_of_folders_and_lists() -> None:
    with Listing() as listing:
        listing.add_folder(objects("s3://b", "x/aachen_000001.png", "y/bochum_000001.png"), ())
        listing.assign_groups("([a-z]+)_")
        assert [row["group"] for row in listing.rows()] == ["aachen", "bochum"]
    with Listing() as listing:
        listing.add_list(list_rows(["p1-a.png", "p1-b.png", "p2-a.png"]), "list.csv")
        listing.assign_groups("^(p[0-9]+)-")
        assert [row["group"] for row in listing.rows()] == ["p1", "p1", "p2"]


@pytest.mark.parametrize("pattern", ["^(p[0-9]+)-", "^p[0-9]+-|^(q)|"])
def test_an_image_whose_group_a_pattern_does_not_find_is_named(pattern: str) -> None:
    with Listing() as listing:
        listing.add_list(list_rows(["readme.png"]), "list.csv")
        with pytest.raises(DatasetError, match=r"^data\.group_pattern: .* finds no group in readme\.png; it must find"):
            listing.assign_groups(pattern)


@pytest.fixture
def large() -> list[ObjectInfo]:
    """More than a listing holds in memory."""
    return [image for number in range(50) for image in objects("s3://b", f"{number}.png", etag=str(number) * 10**6)]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_file_lies_in_the_temporary_folder_without_a_name(
    large: list[ObjectInfo], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_files() -> int:
        links = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        return sum(tmp_path in link.parents for link in links)

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with Listing() as listing:
        listing.add_folder(large, ())
        assert (open_files(), list(tmp_path.iterdir())) == (1, [])
    assert open_files() == 0


def test_a_full_disk_says_where_to_make_room(large: list[ObjectInfo]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, hard))
    try:
        with (
            pytest.raises(
                StorageError,
                match=rf"could not keep the listing .*; [\d,]+ bytes are free in {tempfile.gettempdir()}; make room",
            ),
            Listing() as listing,
        ):
            listing.add_folder(large, ())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
