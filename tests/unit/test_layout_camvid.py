import csv
from pathlib import Path

import pytest

from tests.unit.layout_files import (
    PHOTO,
    check,
    draw_kaggle_camvid,
    draw_original_camvid,
    draw_segnet_camvid,
    mask_of,
    put,
    rows_of,
)
from unet_ray.config import Config
from unet_ray.config_input import DataSection, LabelsSection
from unet_ray.datasets.layouts import list_inputs
from unet_ray.errors import ConfigError, DatasetError

ELEVEN = [[3, 3, 255, 0], [10, 9, 8, 1]]


def config_of(root: Path | str, *, split: str = "lists", **labels: str) -> Config:
    data = DataSection(layout="camvid", root=f"{root}/", split=split)  # type: ignore[arg-type]
    return Config(data=data, labels=LabelsSection(**labels))  # type: ignore[arg-type]


def colours_of(root: Path, *, split: str = "lists", preset: str = "camvid_32_to_11") -> Config:
    return config_of(root, split=split, preset=preset, scheme="colours")


def told(rows: list[dict[str, object]]) -> list[tuple[object, ...]]:
    return [(row["image_id"], row["split"], row["group"], row["frame"]) for row in rows]


def test_folders_are_the_splits_where_there_are_no_lists(tmp_path: Path) -> None:
    files = ("train/0001TP_006690.png", "train/0001TP_006720.png", "trainannot/0001TP_006690.png", "train/notes.txt",
             "trainannot/gone.png", "val/0016E5_07959.png", "valannot/0016E5_07959.png", "test/Seq05VD_f00030.png",
             "README.md")  # fmt: skip
    put(str(tmp_path), dict.fromkeys(files, b"x"))
    with list_inputs(config_of(tmp_path)) as listing:
        rows, found = list(listing.rows()), listing.summary()
    assert told(rows) == [
        ("train/0001TP_006690.png", "train", "0001TP", 6690),
        ("train/0001TP_006720.png", "train", "0001TP", 6720),
        ("val/0016E5_07959.png", "val", "0016E5", 7959),
        ("test/Seq05VD_f00030.png", "test", "Seq05VD", 30),
    ]
    masks = [row["mask_uri"] and row["mask_uri"].removeprefix(f"{tmp_path}/") for row in rows]
    assert masks == ["trainannot/0001TP_006690.png", None, "valannot/0016E5_07959.png", None]
    assert found["skipped_examples"] == [f"{tmp_path}/train/notes.txt"]
    assert found["unpaired_examples"] == [f"{tmp_path}/trainannot/gone.png"]


def test_lists_say_what_belongs_to_a_split_wherever_they_were_written(tmp_path: Path) -> None:
    draw_segnet_camvid(str(tmp_path))
    rows = rows_of(config_of(tmp_path))
    assert told(rows) == [
        ("train/0006R0_f00930.png", "train", "0006R0", 930),
        ("train/0001TP_006690.png", "train", "0001TP", 6690),
        ("train/0016E5_00420.png", "train", "0016E5", 420),
        ("val/0016E5_07959.png", "val", "0016E5", 7959),
    ]
    assert rows[0]["mask_uri"] == f"{tmp_path}/trainannot/0006R0_f00930.png"


def test_a_listed_frame_that_is_not_there_is_quarantined(tmp_path: Path) -> None:
    draw_segnet_camvid(str(tmp_path))
    first, second, gone, last = check(config_of(tmp_path))
    assert [mask_of(row) for row in (first, second, last)] == [ELEVEN] * 3
    assert gone["error_code"] == "missing_image"
    assert f"{tmp_path}/train/0016E5_00420.png" in gone["error_message"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("train/a.png", r"train\.txt: line 2: needs an image and a mask, such as .*, got 'train/a\.png'"),
        ("a.png b.png", r"line 2: needs an image and a mask"),
        ("/a.png /b.png", r"line 2: needs an image and a mask"),
        ("x/train/../a.png x/train/../b.png", r"line 2: needs an image and a mask"),
        ("train/a.png trainannot/..", r"line 2: needs an image and a mask"),
        ("train/a.png trainannot/a\0.png", r"line 2: needs an image and a mask"),
        ("train/X.png trainannot/a.png", r"\{train\}\.txt: row 2: train/X\.png is also in row 1, with another mask"),
        (b"\xff".decode("latin-1"), r"train\.txt: not a list: it is no text in UTF-8"),
    ],
)
def test_an_entry_that_names_no_pair_is_refused(tmp_path: Path, entry: str, message: str) -> None:
    put(str(tmp_path), dict.fromkeys(("train/X.png", "trainannot/X.png"), PHOTO))
    (tmp_path / "train.txt").write_bytes(f"/a/train/X.png /a/trainannot/X.png\n{entry}\n".encode("latin-1"))
    with pytest.raises(DatasetError, match=message):
        rows_of(config_of(tmp_path))


def test_lists_that_name_nothing_are_refused(tmp_path: Path) -> None:
    put(str(tmp_path), {"train/X.png": PHOTO, "trainannot/X.png": PHOTO, "train.txt": b"\n \n", "test.txt": b""})
    with pytest.raises(DatasetError, match=r": train, test\.txt name nothing; fill the lists or remove them"):
        rows_of(config_of(tmp_path))


def test_the_colours_of_32_labels_become_eleven_classes(tmp_path: Path) -> None:
    draw_kaggle_camvid(str(tmp_path))
    rows = check(colours_of(tmp_path))
    assert [(row["image_id"], row["split"]) for row in rows] == [
        ("train/0001TP_009210.png", "train"), ("val/0016E5_07959.png", "val"), ("test/Seq05VD_f00030.png", "test"),
    ]  # fmt: skip
    assert [mask_of(row) for row in rows] == [ELEVEN] * 3


def test_the_original_folders_are_split_as_the_user_says(tmp_path: Path) -> None:
    draw_original_camvid(str(tmp_path))
    config = colours_of(tmp_path, split="group", preset="camvid_32")
    with list_inputs(config) as listing:
        rows, found = list(listing.rows()), listing.summary()
    assert [(row["image_id"], row["frame"]) for row in rows] == [
        ("701_StillsRaw_full/0006R0_f00930.png", 930),
        ("701_StillsRaw_full/0016E5_00390.png", 390),
        ("701_StillsRaw_full/0016E5_08640.png", 8640),
    ]
    assert len({(row["group"], row["split"]) for row in rows}) == 2
    assert found["skipped_examples"] == [f"{tmp_path}/701_StillsRaw_full/Thumbs.db"]
    assert mask_of(check(config)[0]) == [[10, 17, 30, 21], [13, 7, 25, 28]]


@pytest.mark.parametrize("draw", [draw_kaggle_camvid, draw_original_camvid])
@pytest.mark.parametrize("labels", [{}, {"scheme": "colours"}, {"preset": "camvid_32"}])
def test_colours_need_the_two_settings_that_read_them(tmp_path: Path, draw: object, labels: dict[str, str]) -> None:
    draw(str(tmp_path))  # type: ignore[operator]
    with pytest.raises(
        ConfigError, match=r"hold colours, .* set labels\.scheme: colours, and labels\.preset: camvid_32 or camvid_32_"
    ):
        rows_of(config_of(tmp_path, split="hash", **labels))


def test_colours_may_be_read_by_classes_of_ones_own(tmp_path: Path) -> None:
    draw_kaggle_camvid(str(tmp_path))
    labels = LabelsSection(classes=("road",), palette=((128, 64, 128),), scheme="colours", unknown="ignore")
    config = Config(data=config_of(tmp_path).data, labels=labels)
    assert mask_of(check(config)[0]) == [[255, 0, 255, 255], [255] * 4]


def test_colours_may_be_clustered(tmp_path: Path) -> None:
    draw_kaggle_camvid(str(tmp_path))
    assert len(rows_of(config_of(tmp_path, scheme="kmeans"))) == 3


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        (["701_StillsRaw_full/0001TP_006690.png"], "found 701_StillsRaw_full/; check data.root"),
        (["CamVid/train/a.png", "CamVid/trainannot/a.png"], "found CamVid/; point data.root at ROOT/CamVid"),
        (["trainannot/a.png"], "found trainannot/; check data.root"),
        (["data/CameraRGB/a.png"], "found data/; check data.root"),
    ],
)
def test_a_root_that_is_not_camvid_is_told(tmp_path: Path, keys: list[str], found: str) -> None:
    put(str(tmp_path), dict.fromkeys(keys, b"x"))
    with pytest.raises(DatasetError) as caught:
        rows_of(config_of(tmp_path))
    needs = "train/ with trainannot/ or train_labels/, or 701_StillsRaw_full/ with LabeledApproved_full/"
    message = str(caught.value).replace(str(tmp_path), "ROOT")
    assert message.startswith(f"ROOT: not data.layout: camvid, which needs {needs}; {found}")


def test_the_real_camvid_is_listed_whole(data_root: Path) -> None:
    with list_inputs(config_of(data_root / "camvid")) as listing:
        rows, found = list(listing.rows()), listing.summary()
    with (data_root / "camvid/frames.csv").open(encoding="utf-8") as file:
        frames = [(row["split"], row["sequence"], int(row["frame"])) for row in csv.DictReader(file)]
    assert [(row["split"], row["group"], row["frame"]) for row in rows] == frames
    assert (len(frames), found["unpaired_masks"]) == (468, 0)
    assert all(row["mask_uri"] for row in rows)
