from pathlib import Path

import pytest

from unet_ray.config import Config, RunSection
from unet_ray.config_file import load_config
from unet_ray.config_input import DataSection, LabelsSection
from unet_ray.datasets import synthetic
from unet_ray.datasets.layouts import labels_of, list_inputs, root_of
from unet_ray.datasets.listing import Row
from unet_ray.errors import ConfigError, DatasetError
from unet_ray.labels.classes import ClassMap
from unet_ray.labels.scheme import make_class_map

CONFIGS = Path(__file__).parents[2] / "jobs/configs"


def touch(root: Path, *keys: str) -> None:
    for key in keys:
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def rows_of(config: Config) -> list[Row]:
    with list_inputs(config) as listing:
        return list(listing.rows())


def class_map_of(config: Config) -> ClassMap:
    return make_class_map(labels_of(config))


def ignored(classes: ClassMap) -> list[int]:
    recovery = classes.recovery
    return [key for (key,), class_id in zip(recovery.keys, recovery.class_ids, strict=True) if class_id == 255]


def test_camvid_brings_eleven_classes_and_ignores_void() -> None:
    classes = class_map_of(Config(data=DataSection(layout="camvid")))
    assert (classes.num_classes, classes.classes[0], classes.classes[-1]) == (11, "sky", "bicyclist")
    assert ignored(classes) == [11, 255]
    assert classes.palette[-1] == (0, 128, 192)


def test_synthetic_scenes_bring_their_own_classes() -> None:
    classes = class_map_of(Config(data=DataSection(layout="synthetic")))
    assert (classes.classes, classes.palette) == (synthetic.CLASSES, synthetic.PALETTE)
    assert ignored(classes) == [255]


def test_given_labels_win_over_the_layouts_own() -> None:
    labels = LabelsSection(classes=("a", "b"), palette=((1, 1, 1), (2, 2, 2)), ignore_ids=(9,), background="b")
    classes = class_map_of(Config(data=DataSection(layout="camvid"), labels=labels))
    assert (classes.classes, classes.palette) == (("a", "b"), ((1, 1, 1), (2, 2, 2)))
    assert (ignored(classes), classes.background) == ([9], 1)


def test_colours_can_be_given_to_the_layouts_own_classes() -> None:
    colours = tuple((number, 0, 0) for number in range(11))
    config = Config(data=DataSection(layout="camvid"), labels=LabelsSection(palette=colours))
    assert class_map_of(config).palette == colours


def test_a_background_can_be_named_among_the_layouts_own_classes() -> None:
    config = Config(data=DataSection(layout="camvid"), labels=LabelsSection(background="road"))
    assert class_map_of(config).background == 3


def test_folders_have_no_classes_of_their_own() -> None:
    with pytest.raises(ConfigError, match=r"labels\.classes: must name the classes"):
        class_map_of(Config())


@pytest.mark.parametrize("layout", ["folder", "camvid"])
def test_a_layout_that_reads_files_needs_a_root(layout: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"data\.root: must be the URI of the input when data\.layout is {layout}, got"
    ):
        rows_of(Config(data=DataSection(layout=layout)))  # type: ignore[arg-type]


def test_folders_are_listed_under_the_root_and_split(tmp_path: Path) -> None:
    touch(
        tmp_path, *(f"{kind}/{group}/{frame}.png" for kind in ("rgb", "ids") for group in "abcde" for frame in (1, 2))
    )
    data = DataSection(root=f"{tmp_path}/", images="rgb/", masks="ids", split="group", val_fraction=0.4)
    rows = rows_of(Config(data=data))
    assert [row["image_id"] for row in rows][:3] == ["rgb/a/1.png", "rgb/a/2.png", "rgb/b/1.png"]
    assert [Path(row["mask_uri"]).relative_to(tmp_path).as_posix() for row in rows][:2] == [
        "ids/a/1.png",
        "ids/a/2.png",
    ]
    assert [row["split"] for row in rows].count("val") == 4


def test_frames_without_truth_are_listed_with_masks_null(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", "masks/a.png")
    [row] = rows_of(Config(data=DataSection(root=str(tmp_path), masks=None, val_fraction=0)))
    assert row["mask_uri"] is None


def test_a_list_is_read_instead_of_folders_and_may_bring_its_splits(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("image,mask,split\na.png,b.png,train\nc.png,d.png,test\n")
    rows = rows_of(Config(data=DataSection(layout="list", root=f"{tmp_path}/pairs.csv", split="lists")))
    assert [(row["image_uri"], row["split"]) for row in rows] == [
        (f"{tmp_path}/a.png", "train"),
        (f"{tmp_path}/c.png", "test"),
    ]


@pytest.mark.parametrize(("split", "found"), [("", "none"), ("training", "training")])
def test_a_list_without_a_split_of_ours_is_refused(tmp_path: Path, split: str, found: str) -> None:
    (tmp_path / "pairs.csv").write_text(f"image,split\na.png,train\nb.png,{split}\n")
    with pytest.raises(
        DatasetError, match=rf"data\.split: lists needs train, val or test for every image, b\.png has '{found}'; give"
    ):
        rows_of(Config(data=DataSection(layout="list", root=f"{tmp_path}/pairs.csv", split="lists")))


def test_a_split_that_leaves_nothing_to_train_on_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png")
    config = Config(data=DataSection(root=str(tmp_path), masks=None, val_fraction=0.99))
    with pytest.raises(DatasetError, match=r"no image is in the train split, of 1 found; lower data\.val_fraction"):
        rows_of(config)


def test_synthetic_frames_lie_with_the_run_or_where_they_are_put(tmp_path: Path) -> None:
    config = Config(
        run=RunSection(storage=str(tmp_path), name="a"), data=DataSection(layout="synthetic", val_fraction=0)
    )
    touch(tmp_path, "a/frames/images/seq_000/frame_00001.png", "a/frames/masks/seq_000/frame_00001.png")
    [row] = rows_of(config)
    assert (row["image_id"], row["group"], row["frame"]) == ("images/seq_000/frame_00001.png", "seq_000", 1)
    assert root_of(Config(data=DataSection(layout="synthetic", root="s3://b/x"))) == "s3://b/x"


@pytest.mark.parametrize("layout", ["camvid", "list"])
def test_images_without_a_mask_can_be_left_out_of_every_layout(tmp_path: Path, layout: str) -> None:
    touch(tmp_path, "train/a_1.png", "train/a_2.png", "trainannot/a_1.png")
    (tmp_path / "list.csv").write_text("image,mask,split\ntrain/a_1.png,m.png,train\ntrain/a_2.png,,val\n")
    root = f"{tmp_path}/list.csv" if layout == "list" else str(tmp_path)
    config = Config(data=DataSection(layout=layout, root=root, split="lists", unlabelled="skip"))
    with list_inputs(config) as listing:
        assert [row["image_id"] for row in listing.rows()] == ["train/a_1.png"]
        assert listing.summary()["without_mask_examples"] == [f"{tmp_path}/train/a_2.png"]


@pytest.mark.parametrize(
    ("name", "first", "last", "num_classes", "ignored_values"),
    [
        ("cityscapes_8", "void", "vehicle", 8, []),
        ("cityscapes_19", "road", "bicycle", 19, [*range(7), 9, 10, 14, 15, 16, 18, 29, 30]),
        ("voc", "background", "tvmonitor", 21, [255]),
        ("carla", "Unlabeled", "Terrain", 23, [255]),
    ],
)
def test_a_shipped_configuration_has_the_classes_of_its_project(
    name: str, first: str, last: str, num_classes: int, ignored_values: list[int]
) -> None:
    classes = class_map_of(load_config(f"{CONFIGS}/{name}.yaml"))
    assert (classes.classes[0], classes.classes[-1], classes.num_classes) == (first, last, num_classes)
    assert ignored(classes) == ignored_values
