from pathlib import Path

import pytest

from unet_ray.config import Config
from unet_ray.config_input import DataSection
from unet_ray.datasets.layouts import list_inputs
from unet_ray.datasets.listing import Row
from unet_ray.datasets.sniff import looks_like
from unet_ray.errors import DatasetError

CITY = "train/aachen/aachen_000000_000019"
TREES = {
    "cityscapes": (f"leftImg8bit/{CITY}_leftImg8bit.png", f"gtFine/{CITY}_gtFine_labelIds.png"),
    "camvid": ("train/0001TP_006690.png", "trainannot/0001TP_006690.png", "val/1.jpg", "train/1.jpg"),
    "camvid_of_colours": ("train/0001TP_006690.png", "train_labels/0001TP_006690_L.png", "class_dict.csv"),
    "pairs": ("train/1.jpg", "train/2.jpg", "val/1.jpg"),
    "voc": ("VOC2012/JPEGImages/2007_000032.jpg", "VOC2012/SegmentationClass/2007_000032.png"),
    "isbi": ("train/image/0.png", "train/label/0.png", "test/0.png"),
    "isbi_volumes": ("train-volume.tif", "train-labels.tif", "test-volume.tif"),
    "carla": ("dataA/dataA/CameraRGB/02_00_000.png", "dataA/dataA/CameraSeg/02_00_000.png"),
    "folder": ("images/a/00001.jpg", "masks/a/00001.png"),
    "video": ("clips/one.MP4", "clips/two.avi"),
    "list": ("frames.parquet", "frames/1.png"),
}
WRONG = [
    (name, chosen)
    for name in TREES
    for chosen in ("folder", "camvid", "pairs", "isbi")
    if not name.startswith(chosen) and (name, chosen) != ("isbi_volumes", "pairs")  # files in one folder may be pairs
]


def make_tree(root: Path, name: str) -> str:
    for key in TREES[name]:
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).touch()
    return str(root)


def rows_of(config: Config) -> list[Row]:
    with list_inputs(config) as listing:
        return list(listing.rows())


@pytest.mark.parametrize("name", TREES)
def test_each_layout_is_known_by_its_names(tmp_path: Path, name: str) -> None:
    assert looks_like(make_tree(tmp_path, name)) == name.partition("_")[0]


@pytest.mark.parametrize("name", TREES)
def test_a_layout_is_known_from_a_few_folders_above_too(tmp_path: Path, name: str) -> None:
    make_tree(tmp_path / "downloads/set", name)
    for number in range(10):
        (tmp_path / f"downloads/set/other_{number}/deep").mkdir(parents=True)
    assert looks_like(str(tmp_path)) == name.partition("_")[0]


@pytest.mark.parametrize(("root", "layout"), [("s3://b/a.csv", "list"), ("/none/a.mov", "video")])
def test_a_file_is_known_by_its_ending_without_a_look_at_it(root: str, layout: str) -> None:
    assert looks_like(root) == layout


def test_what_is_no_layout_or_cannot_be_read_is_none(tmp_path: Path) -> None:
    assert looks_like(f"{tmp_path}/none") is None
    assert looks_like(str(tmp_path)) is None
    (tmp_path / "images").mkdir()
    (tmp_path / "train").mkdir()
    (tmp_path / "train/1.jpg").touch()
    assert looks_like(str(tmp_path)) is None


def test_a_folder_of_very_many_files_does_not_hide_what_is_beside_it(tmp_path: Path) -> None:
    make_tree(tmp_path, "voc")
    for number in range(300):
        (tmp_path / f"VOC2012/JPEGImages/{number}.jpg").touch()
    assert looks_like(str(tmp_path)) == "voc"


@pytest.mark.parametrize(("name", "chosen"), WRONG)
def test_a_wrong_layout_is_told_which_one_it_looks_like(tmp_path: Path, name: str, chosen: str) -> None:
    config = Config(data=DataSection(layout=chosen, root=f"{make_tree(tmp_path, name)}/"))
    with pytest.raises(DatasetError, match=f"; it looks like data.layout: {name.partition('_')[0]}$"):
        rows_of(config)


@pytest.mark.parametrize("chosen", ["folder", "pairs", "isbi"])
def test_a_list_given_as_a_folder_is_told_to_be_one(tmp_path: Path, chosen: str) -> None:
    (tmp_path / "pairs.csv").write_text("image,mask\n")
    with pytest.raises(DatasetError, match=r"pairs\.csv.*: no such folder; .*; it looks like data\.layout: list$"):
        rows_of(Config(data=DataSection(layout=chosen, root=f"{tmp_path}/pairs.csv")))


def test_a_layout_that_fits_by_its_names_gets_no_hint(tmp_path: Path) -> None:
    make_tree(tmp_path, "folder")
    with pytest.raises(DatasetError, match=r"data\.mask_suffix, which are '' and '_x'$"):
        rows_of(Config(data=DataSection(root=str(tmp_path), mask_suffix="_x")))
