"""The tables, and that masks of ids, of train ids and of colours mean the same."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from unet_ray.config_input import LabelsSection
from unet_ray.errors import ImageError
from unet_ray.labels.presets import PRESETS
from unet_ray.labels.scheme import make_class_map

CITYSCAPES = PRESETS["cityscapes_34"].labels
GROUPED = {"cityscapes_34": 34, "cityscapes_19": 19, "cityscapes_8": 8, "cityscapes_train_ids": 19,
           "camvid_11": 11, "camvid_32": 32, "camvid_32_to_11": 11, "voc": 21, "carla": 13, "isbi": 2}  # fmt: skip


def read(pixels: NDArray[Any], **section: Any) -> NDArray[np.uint8]:
    return make_class_map(LabelsSection(**section)).recovery.to_class_ids(pixels)


def paint(ids: NDArray[np.uint16], preset: str) -> NDArray[np.uint8]:
    """Return a mask of ids as one of colours."""
    table = np.zeros((256, 3), np.uint8)
    for label in PRESETS[preset].labels:
        table[label.value] = label.colour
    return table[ids]


@pytest.fixture
def street() -> NDArray[np.uint16]:
    """A mask of all 34 ids but polegroup, whose colour is that of pole."""
    ids = np.random.default_rng(0).permutation(np.repeat(np.arange(34, dtype=np.uint16), 5))
    ids[ids == 18] = 17
    return ids.reshape(10, 17)


@pytest.mark.parametrize(("preset", "num_classes"), GROUPED.items())
def test_a_preset_has_its_classes_and_a_colour_for_each(preset: Any, num_classes: int) -> None:
    made = make_class_map(LabelsSection(preset=preset))
    assert made.num_classes == len(made.palette) == num_classes
    assert len({label.name for label in PRESETS[preset].labels}) == len(PRESETS[preset].labels)
    assert len({label.value for label in PRESETS[preset].labels}) == len(PRESETS[preset].labels)


def test_every_preset_is_tested_here() -> None:
    assert set(GROUPED) == set(PRESETS)


@pytest.mark.parametrize("preset", ["cityscapes_19", "cityscapes_8"])
def test_cityscapes_ids_and_colours_mean_the_same(preset: Any, street: NDArray[np.uint16]) -> None:
    by_id = read(street, preset=preset)
    assert np.array_equal(by_id, read(paint(street, preset), preset=preset, scheme="colours"))
    assert set(np.unique(by_id).tolist()) == {*range(GROUPED[preset]), *([255] if preset == "cityscapes_19" else [])}


def test_cityscapes_ids_and_train_ids_mean_the_same(street: NDArray[np.uint16]) -> None:
    train_id = np.full(34, 255, np.uint16)  # as helpers/labels.py has them
    train_id[[7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]] = range(19)
    stored = train_id[street]
    assert np.array_equal(read(stored, preset="cityscapes_train_ids"), read(street, preset="cityscapes_19"))
    names = make_class_map(LabelsSection(preset="cityscapes_19")).classes
    assert names == make_class_map(LabelsSection(preset="cityscapes_train_ids")).classes


def test_the_eight_cityscapes_categories_are_made_of_the_34_ids_and_hold_the_19() -> None:
    category = [0] * 7 + [1] * 4 + [2] * 6 + [3] * 4 + [4] * 2 + [5] + [6] * 2 + [7] * 8
    ids = np.arange(34, dtype=np.uint16)[None]
    assert read(ids, preset="cityscapes_8").tolist() == [category]
    assert read(ids, preset="cityscapes_34").tolist() == ids.tolist()
    nineteen, eight = read(ids, preset="cityscapes_19")[0], read(ids, preset="cityscapes_8")[0]
    assert {int(group) for group in eight[nineteen != 255]} == set(range(1, 8))


def test_a_class_wins_the_colour_it_shares_with_an_ignored_label() -> None:
    pole = read(np.array([[(153, 153, 153), (0, 0, 0)]], np.uint8), preset="cityscapes_19", scheme="colours")
    assert pole.tolist() == [[5, 255]]
    first = read(np.array([[(153, 153, 153), (0, 0, 0)]], np.uint8), preset="cityscapes_34", scheme="colours")
    assert first.tolist() == [[17, 0]]


def test_an_id_that_cityscapes_does_not_have_is_refused() -> None:
    with pytest.raises(ImageError, match=r"values 34 \(1 px\); known are 0\.\.33"):
        read(np.array([[7, 34]], np.uint16), preset="cityscapes_19")


def test_the_32_camvid_labels_become_11_classes_and_void_is_ignored() -> None:
    labels = {label.name: label.value for label in PRESETS["camvid_32"].labels}
    classes = make_class_map(LabelsSection(preset="camvid_32_to_11")).classes
    ids = np.arange(32, dtype=np.uint16)[None]
    grouped = read(ids, preset="camvid_32_to_11")
    assert np.array_equal(
        grouped, read(paint(ids, "camvid_32"), preset="camvid_32_to_11", scheme="colours", unknown="reject")
    )
    of = {name: int(grouped[0, value]) for name, value in labels.items()}
    assert of.pop("Void") == 255
    assert set(of.values()) == set(range(11))
    assert [classes[of[name]] for name in ("Bridge", "LaneMkgsDriv", "SUVPickupTruck", "Child", "Misc_Text")] == [
        *("building", "road", "car", "pedestrian", "sign")
    ]
    assert classes == make_class_map(LabelsSection(preset="camvid_11")).classes


def test_void_of_the_eleven_camvid_classes_is_ignored_by_id_and_by_colour() -> None:
    assert read(np.array([[10, 11, 255]], np.uint16), preset="camvid_11").tolist() == [[10, 255, 255]]
    colours = np.array([[(0, 128, 192), (0, 0, 0)]], np.uint8)
    assert read(colours, preset="camvid_11", scheme="colours").tolist() == [[10, 255]]


def test_voc_colours_are_the_bits_of_the_ids() -> None:
    colours = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 4: (0, 0, 128), 7: (128, 128, 128), 8: (64, 0, 0),
               15: (192, 128, 128), 16: (0, 64, 0), 20: (0, 64, 128)}  # fmt: skip
    made = make_class_map(LabelsSection(preset="voc"))
    assert {class_id: made.palette[class_id] for class_id in colours} == colours
    assert made.background == 0
    border = np.array([[(224, 224, 192), (0, 64, 128)]], np.uint8)
    assert read(border, preset="voc", scheme="colours").tolist() == [[255, 20]]
    assert read(np.array([[0, 20, 255]], np.uint16), preset="voc").tolist() == [[0, 20, 255]]


def test_isbi_masks_hold_0_and_255_and_neither_is_ignored() -> None:
    assert read(np.array([[0, 255]], np.uint16), preset="isbi").tolist() == [[0, 1]]
    by_hand = read(np.array([[0, 255]], np.uint16), classes=("membrane", "cell"), values=(0, 255))
    assert by_hand.tolist() == [[0, 1]]


def test_carla_ids_lie_in_the_red_channel() -> None:
    pixels = np.zeros((1, 13, 3), np.uint8)
    pixels[0, :, 0] = range(13)
    assert read(pixels, preset="carla", scheme="channel").tolist() == [list(range(13))]
    pixels[0, 0, 0] = 13
    with pytest.raises(ImageError, match=r"values 13 \(1 px\); known are 0\.\.12"):
        read(pixels, preset="carla", scheme="channel")
