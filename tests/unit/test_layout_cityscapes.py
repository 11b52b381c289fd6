from pathlib import Path

import pytest

from tests.unit.layout_files import CITYSCAPES_IDS, PHOTO, check, draw_cityscapes, ids_png, mask_of, put, rows_of
from unet_ray.config import Config
from unet_ray.config_input import DataSection, LabelsSection
from unet_ray.errors import ConfigError, DatasetError

NINETEEN = [[0, 1, 255, 13], [18, 255, 2, 10]]


def config_of(root: Path | str, *, mask_suffix: str = "", **labels: str) -> Config:
    data = DataSection(layout="cityscapes", root=f"{root}/", split="lists", mask_suffix=mask_suffix)
    return Config(data=data, labels=LabelsSection(**labels))  # type: ignore[arg-type]


def test_photos_are_listed_by_split_and_city_with_their_label_ids(tmp_path: Path) -> None:
    draw_cityscapes(str(tmp_path))
    rows = rows_of(config_of(tmp_path))
    assert [(row["image_id"], row["split"], row["group"], row["frame"]) for row in rows] == [
        ("leftImg8bit/train/aachen/aachen_000001_000019_leftImg8bit.png", "train", "aachen_000001", 19),
        ("leftImg8bit/train/hamburg/hamburg_000000_000042_leftImg8bit.png", "train", "hamburg_000000", 42),
        ("leftImg8bit/train/hamburg/hamburg_000000_016447_leftImg8bit.png", "train", "hamburg_000000", 16447),
        ("leftImg8bit/val/lindau/lindau_000000_000019_leftImg8bit.png", "val", "lindau_000000", 19),
        ("leftImg8bit/test/berlin/berlin_000000_000019_leftImg8bit.png", "test", "berlin_000000", 19),
    ]
    assert rows[0]["mask_uri"] == f"{tmp_path}/gtFine/train/aachen/aachen_000001_000019_gtFine_labelIds.png"
    assert rows[-1]["mask_uri"] is None


@pytest.mark.parametrize("suffix", ["", "_labelIds", "_gtFine_labelIds"])
def test_label_ids_become_nineteen_classes(tmp_path: Path, suffix: str) -> None:
    draw_cityscapes(str(tmp_path))
    *labelled, unlabelled = check(config_of(tmp_path, mask_suffix=suffix))
    assert [mask_of(row) for row in labelled] == [NINETEEN] * 4
    assert unlabelled["error_code"] == "missing_mask"


def test_label_ids_become_eight_categories(tmp_path: Path) -> None:
    draw_cityscapes(str(tmp_path))
    assert mask_of(check(config_of(tmp_path, preset="cityscapes_8"))[0]) == [[1, 1, 0, 7], [7, 7, 2, 5]]


@pytest.mark.parametrize("suffix", ["_labelTrainIds", "_gtFine_labelTrainIds"])
def test_train_ids_are_the_same_classes(tmp_path: Path, suffix: str) -> None:
    draw_cityscapes(str(tmp_path))
    config = config_of(tmp_path, mask_suffix=suffix, preset="cityscapes_train_ids")
    assert mask_of(check(config)[0]) == NINETEEN


@pytest.mark.parametrize("suffix", ["_color", "_gtFine_color"])
def test_colours_are_the_same_classes(tmp_path: Path, suffix: str) -> None:
    draw_cityscapes(str(tmp_path))
    config = config_of(tmp_path, mask_suffix=suffix, preset="cityscapes_19", scheme="colours")
    assert mask_of(check(config)[0]) == NINETEEN


@pytest.mark.parametrize(
    ("suffix", "labels", "message"),
    [
        ("_color", {}, "hold colours, got ids with labels.preset: cityscapes_19; set labels.scheme: colours, and"),
        ("_labelTrainIds", {}, "labels.scheme: ids, and labels.preset: cityscapes_train_ids$"),
        ("", {"preset": "cityscapes_train_ids"}, "labels.preset: cityscapes_34 or cityscapes_19 or cityscapes_8$"),
        ("", {"scheme": "colours"}, "the masks hold class ids, got colours with labels.preset: cityscapes_19; set"),
    ],
)
def test_labels_that_do_not_read_the_chosen_masks_are_refused(
    tmp_path: Path, suffix: str, labels: dict[str, str], message: str
) -> None:
    draw_cityscapes(str(tmp_path))
    with pytest.raises(ConfigError, match=message):
        rows_of(config_of(tmp_path, mask_suffix=suffix, **labels))


def test_photos_alone_are_listed_without_masks(tmp_path: Path) -> None:
    put(str(tmp_path), {f"leftImg8bit/{split}/a/a_000000_000019_leftImg8bit.png": PHOTO for split in ("train", "val")})
    assert [row["mask_uri"] for row in rows_of(config_of(tmp_path))] == [None, None]


def test_coarse_masks_stand_in_where_there_are_no_fine_ones(tmp_path: Path) -> None:
    draw_cityscapes(str(tmp_path), "gtCoarse")
    extra = "train_extra/augsburg/augsburg_000000_000000"
    put(str(tmp_path), {
        f"leftImg8bit/{extra}_leftImg8bit.png": PHOTO,
        f"gtCoarse/{extra}_gtCoarse_labelIds.png": ids_png(CITYSCAPES_IDS),
        "gtFine/val/lindau/lindau_000000_000019_gtFine_labelIds.png": ids_png(CITYSCAPES_IDS),
    })  # fmt: skip
    rows = rows_of(config_of(tmp_path))
    assert [(row["split"], row["mask_uri"] and row["mask_uri"].rpartition("_gt")[2]) for row in rows] == [
        *[("train", "Coarse_labelIds.png")] * 4, ("val", "Fine_labelIds.png"), ("test", None),
    ]  # fmt: skip
    fine = rows_of(config_of(tmp_path, mask_suffix="_gtFine_labelIds"))
    assert [row["mask_uri"] is None for row in fine] == [True, True, True, True, False, True]


def test_masks_of_another_kind_than_asked_for_are_told(tmp_path: Path) -> None:
    frame = "train/a/a_000000_000019"
    put(str(tmp_path), {f"leftImg8bit/{frame}_leftImg8bit.png": PHOTO, f"gtFine/{frame}_gtFine_polygons.json": b"{}"})
    with pytest.raises(DatasetError, match=r"0 of 1 images under .*leftImg8bit/train have a mask .*'_gtFine_labelIds'"):
        rows_of(config_of(tmp_path))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ([], "no such folder; check data.root"),
        (["gtFine/train/a/x.png"], "needs leftImg8bit/train/, leftImg8bit/val/ and so on; found gtFine/; check data"),
        (["VOC2012/JPEGImages/a.jpg"], "found VOC2012/; check data.root"),
        (["a/leftImg8bit/train/b.png", "z.zip"], "found a/, z.zip; point data.root at ROOT/a"),
    ],
)
def test_a_root_that_is_not_cityscapes_is_told(tmp_path: Path, keys: list[str], message: str) -> None:
    root = f"{tmp_path}/root"
    put(root, dict.fromkeys(keys, b"x"))
    with pytest.raises(DatasetError) as caught:
        rows_of(config_of(root))
    assert message in str(caught.value).replace(root, "ROOT")
