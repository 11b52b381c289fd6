import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from unet_ray.config_input import LabelsSection
from unet_ray.errors import ConfigError, ImageError
from unet_ray.labels.classes import ClassMap
from unet_ray.labels.presets import PRESETS
from unet_ray.labels.scheme import check_labels, generate_palette, make_class_map, make_cluster_map

CLASSES = ("sky", "road", "car")


def class_map(ignore_ids: tuple[int, ...] = (255,)) -> ClassMap:
    return make_class_map(LabelsSection(classes=CLASSES, ignore_ids=ignore_ids))


def test_ids_stay_and_ignored_values_become_255() -> None:
    mask = np.array([[0, 1, 2], [255, 11, 4096]], np.uint16)
    ids = class_map((11, 255, 4096)).recovery.to_class_ids(mask)
    assert ids.dtype == np.uint8
    assert ids.tolist() == [[0, 1, 2], [255, 255, 255]]


def test_a_class_that_is_ignored_is_not_trained_on() -> None:
    assert class_map((1,)).recovery.to_class_ids(np.array([[0, 1, 2]], np.uint16)).tolist() == [[0, 255, 2]]


def test_255_is_unknown_where_it_is_not_ignored() -> None:
    with pytest.raises(ImageError, match=r"values 255 \(1 px\); known are 0\.\.2 "):
        class_map(()).recovery.to_class_ids(np.array([[0, 255]], np.uint16))


def test_unknown_values_are_counted_and_the_fix_is_named() -> None:
    with pytest.raises(ImageError) as caught:
        class_map((11, 255)).recovery.to_class_ids(np.array([[3, 3, 0], [65535, 255, 11]], np.uint16))
    assert caught.value.code == "class_id_out_of_range"
    assert caught.value.message == (
        "values 3 (2 px), 65535 (1 px); known are 0..2, 11, 255 (labels.values, labels.ignore_ids)"
    )


def test_a_mask_of_many_unknown_values_names_five() -> None:
    with pytest.raises(ImageError, match=r"^class_id_out_of_range: values 3 \(1 px\), .*7 \(1 px\) and 2 more; known"):
        class_map().recovery.to_class_ids(np.arange(10, dtype=np.uint16)[None])


def test_all_253_classes_have_an_id() -> None:
    names = tuple(f"class {number}" for number in range(253))
    mask = np.arange(253, dtype=np.uint16)[None]
    assert make_class_map(LabelsSection(classes=names)).recovery.to_class_ids(mask).tolist() == mask.tolist()


def test_a_class_map_keeps_its_palette_and_knows_its_background_by_id() -> None:
    palette = ((0, 0, 0), (1, 2, 3), (255, 255, 255))
    made = make_class_map(LabelsSection(classes=CLASSES, palette=palette, background="road"))
    assert (made.classes, made.palette, made.background, made.num_classes) == (CLASSES, palette, 1, 3)


def test_a_class_map_comes_back_from_json() -> None:
    made = make_class_map(LabelsSection(classes=CLASSES, scheme="colours", palette=((0, 0, 0), (1, 2, 3), (9, 9, 9)),
                                        hood=("car", 3)))  # fmt: skip
    assert ClassMap.from_facts(json.loads(json.dumps(asdict(made)))) == made


@pytest.mark.parametrize(
    ("classes", "palette", "background", "message"),
    [
        ((), (), None, "labels.classes: must name the classes, position = class_id"),
        (CLASSES, ((0, 0, 0),), None, "labels.palette: must hold a colour per class, got 1 for 3 classes"),
        (CLASSES, (), "tree", "labels.background: must be one of the classes (sky, road, car), got 'tree'"),
    ],
)
def test_labels_that_do_not_fit_together_are_refused(
    classes: tuple[str, ...], palette: tuple[tuple[int, int, int], ...], background: str | None, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        make_class_map(LabelsSection(classes=classes, palette=palette, background=background))
    assert str(caught.value).startswith(message)


def test_generated_colours_differ_and_stay_when_classes_are_added() -> None:
    palette = generate_palette(64)
    assert len(set(palette)) == 64
    assert all(0 <= value <= 255 for colour in palette for value in colour)
    assert generate_palette(8) == palette[:8]


def refused(section: LabelsSection) -> str:
    with pytest.raises(ConfigError) as caught:
        check_labels(section)
    return str(caught.value)


def test_bins_are_those_of_the_thresholds_20_to_240() -> None:
    made = make_class_map(LabelsSection(scheme="bins"))
    red = np.zeros((1, 256, 3), np.uint8)
    red[0, :, 0] = range(256)
    red[0, :, 1] = 77
    expected = np.digitize(np.arange(256), np.arange(20, 241, 20))
    assert made.recovery.to_class_ids(red).tolist() == [expected.tolist()]
    assert made.classes == tuple(f"bin_{number}" for number in range(13))


def test_the_last_named_bin_takes_the_rest() -> None:
    made = make_class_map(LabelsSection(scheme="bins", bin_width=10, classes=("dark", "grey", "light")))
    pixels = np.array([[(9, 0, 0), (10, 0, 0), (20, 0, 0), (255, 0, 0)]], np.uint8)
    assert made.recovery.to_class_ids(pixels).tolist() == [[0, 1, 2, 2]]


def test_labels_are_grouped_and_those_of_no_group_are_ignored() -> None:
    made = make_class_map(LabelsSection(preset="cityscapes_34", groups={"road": ("road", "parking"), "car": ("car",)}))
    assert (made.classes, made.palette) == (("road", "car"), ((128, 64, 128), (0, 0, 142)))
    assert made.recovery.to_class_ids(np.array([[7, 9, 26, 8, 0]], np.uint16)).tolist() == [[0, 0, 1, 255, 255]]


def test_labels_that_are_left_out_lose_their_pixels_to_the_next_colour() -> None:
    section = {"preset": "cityscapes_8", "scheme": "colours", "max_distance": "any"}
    near_ground = np.array([[(80, 0, 80)]], np.uint8)  # of ground, void; the next is wall's, construction
    all_labels = make_class_map(LabelsSection(**section)).recovery
    fewer = make_class_map(LabelsSection(**section, leave_out=("ground", "dynamic", "caravan"))).recovery
    assert all_labels.to_class_ids(near_ground).tolist() == [[0]]
    assert (81, 0, 81) not in fewer.keys
    assert fewer.to_class_ids(near_ground).tolist() != [[0]]


def test_a_class_whose_labels_are_all_left_out_is_gone() -> None:
    assert "sky" not in make_class_map(LabelsSection(preset="cityscapes_8", leave_out=("sky",))).classes


def test_ignored_colours_are_known_and_ignored() -> None:
    section = LabelsSection(classes=("a", "b"), palette=((255, 0, 0), (0, 255, 0)), scheme="colours",
                            ignore_colours=((0, 0, 0),))  # fmt: skip
    pixels = np.array([[(255, 0, 0), (0, 0, 0), (0, 255, 0)]], np.uint8)
    assert make_class_map(section).recovery.to_class_ids(pixels).tolist() == [[0, 255, 1]]


def test_labels_of_one_group_may_share_a_colour_and_labels_of_two_may_not() -> None:
    section = {"classes": ("car", "plate", "sky"), "palette": ((0, 0, 142), (0, 0, 142), (9, 9, 9))}
    grouped = LabelsSection(**section, scheme="colours", groups={"car": ("car", "plate"), "sky": ("sky",)})
    assert make_class_map(grouped).recovery.keys == ((0, 0, 142), (9, 9, 9))
    assert refused(LabelsSection(**section, scheme="colours")) == (
        "labels.palette: must tell classes apart, 0, 0, 142 is that of 'plate' and of another"
    )
    assert make_class_map(LabelsSection(**section)).num_classes == 3  # stored as ids, the palette is for pictures


def test_a_preset_takes_other_colours_for_its_pictures() -> None:
    palette = tuple((number, 0, 0) for number in range(8))
    made = make_class_map(LabelsSection(preset="cityscapes_8", palette=palette))
    assert made.palette == palette


def test_a_preset_brings_its_background_unless_another_is_named() -> None:
    assert make_class_map(LabelsSection(preset="voc")).background == 0
    assert make_class_map(LabelsSection(preset="voc", background="cat")).background == 8
    assert make_class_map(LabelsSection(preset="voc", groups={"cat": ("cat",)})).background is None


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"preset": "voc", "classes": ("a",)}, "labels.classes: labels.preset knows the classes already; give one"),
        ({"preset": "voc", "values": (1,)}, "labels.values: labels.preset knows the stored values already; give one"),
        ({"preset": "voc", "scheme": "bins"}, "labels.preset: no table has bins; leave it out, or name the bins in"),
        ({"preset": "voc", "palette": ((0, 0, 0),)}, "labels.palette: must hold a colour per class, got 1 for 21"),
        ({"classes": ("a", "b"), "values": (1,)}, "labels.values: must hold a value per class, got 1 for 2 classes"),
        ({"classes": ("a", "b"), "values": (1, 1)}, "labels.values: must tell classes apart, 1 is that of 'b' and of"),
        ({"classes": ("a",), "scheme": "colours"}, "labels.palette: must hold the colour of each class where labels.s"),
        ({"classes": tuple("abcdef"), "scheme": "bins", "bin_width": 60},
         "labels.classes: must be at most 5 where labels.bin_width is 60, got 6"),
        ({"classes": ("a", "b"), "groups": {"x": ("a", "c")}}, "labels.groups.x: must name labels (a, b), got 'c'"),
        ({"classes": ("a", "b"), "groups": {"x": ("a",), "y": ("b", "a")}},
         "labels.groups: must have each label in one group, 'a' is in 2"),
        ({"classes": ("a", "b"), "leave_out": ("c",)}, "labels.leave_out: must name labels (a, b), got 'c'"),
        ({"classes": ("a", "b"), "leave_out": ("a", "b")}, "labels.leave_out: must leave a class, got all labels"),
        ({"classes": ("a", "b"), "hood": ("c", 3)}, "labels.hood: must be one of the classes (a, b), got 'c'"),
        ({"scheme": "kmeans", "groups": {"x": ("a",)}}, "labels.groups: has no meaning where labels.scheme is kmeans"),
        ({"scheme": "kmeans", "ignore_colours": ((0, 0, 0),)}, "labels.ignore_colours: has no meaning where labels.s"),
        ({"scheme": "kmeans", "preset": "isbi", "palette": ((0, 0, 0),)}, "labels.palette: has no meaning where label"),
        ({"scheme": "kmeans", "classes": ("a",)}, "labels.palette: must hold the colour of each class where labels.s"),
        ({"scheme": "kmeans", "palette": ((0, 0, 0),)}, "labels.classes: must name the classes, position = class_id"),
        ({"scheme": "kmeans", "preset": "isbi", "leave_out": ("x",)}, "labels.leave_out: must name labels (membrane,"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_together_are_refused_by_key(section: dict[str, Any], message: str) -> None:
    assert refused(LabelsSection(**section)).startswith(message)


def test_clusters_are_named_after_the_nearest_known_colour() -> None:
    section = LabelsSection(scheme="kmeans", preset="cityscapes_19", background="road")
    centroids = [(2, 3, 1), (70, 72, 69), (90, 95, 90), (125, 66, 130)]
    made = make_cluster_map(section, centroids)
    assert made.classes == ("unlabeled", "building", "building_2", "road")
    assert made.palette == tuple(centroids)
    assert made.background == 3
    assert made.recovery.max_distance is None
    named = LabelsSection(scheme="kmeans", classes=("dark", "light"), palette=((0, 0, 0), (255, 255, 255)))
    assert make_cluster_map(named, [(9, 9, 9), (250, 250, 250)]).classes == ("dark", "light")


def test_clusters_without_known_colours_are_numbered() -> None:
    made = make_cluster_map(LabelsSection(scheme="kmeans", mode_filter=3), [(0, 0, 0), (9, 9, 9)])
    assert (made.classes, made.background, made.recovery.mode_filter) == (("cluster_0", "cluster_1"), None, 3)


def test_names_of_clusters_are_used_once_even_where_labels_end_in_numbers() -> None:
    section = LabelsSection(scheme="kmeans", classes=("a", "a_2"), palette=((0, 0, 0), (200, 0, 0)))
    made = make_cluster_map(section, [(0, 0, 0), (1, 0, 0), (200, 0, 0), (201, 0, 0)])
    assert made.classes == ("a", "a_2", "a_2_2", "a_2_3")


def test_clusters_of_ignored_colours_are_void_and_labels_left_out_give_no_names() -> None:
    made = make_cluster_map(LabelsSection(scheme="kmeans", preset="camvid_11"), [(1, 1, 1), (127, 128, 127)])
    assert made.classes == ("void", "sky")
    fewer = LabelsSection(scheme="kmeans", preset="camvid_11", leave_out=("sky",))
    assert "sky" not in make_cluster_map(fewer, [(127, 128, 127)]).classes


def test_a_preset_gives_clusters_its_background_where_one_is_found() -> None:
    section = LabelsSection(scheme="kmeans", preset="voc")
    assert make_cluster_map(section, [(1, 0, 0), (64, 0, 0)]).background == 0
    assert make_cluster_map(section, [(64, 0, 0)]).background is None


@pytest.mark.parametrize(("key", "value"), [("background", "sea"), ("hood", ("sea", 3))])
def test_a_cluster_that_is_not_there_cannot_be_the_background_or_the_hood(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"labels\.{key}: must be one of the classes \(cluster_0\), got 'sea'"):
        make_cluster_map(LabelsSection(scheme="kmeans", **{key: value}), [(0, 0, 0)])


def test_the_hood_of_clusters_is_ignored() -> None:
    made = make_cluster_map(LabelsSection(scheme="kmeans", hood=("cluster_1", 1)), [(0, 0, 0), (9, 9, 9)])
    assert made.recovery.to_class_ids(np.full((2, 1, 3), 9, np.uint8)).tolist() == [[1], [255]]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_can_be_checked_before_anything_is_read(preset: Any) -> None:
    for scheme in ("ids", "channel", "colours", "kmeans"):
        check_labels(LabelsSection(preset=preset, scheme=scheme))
