import json
from dataclasses import asdict

import numpy as np
import pytest

from unet_ray.config_input import LabelsSection
from unet_ray.errors import ConfigError, ImageError
from unet_ray.labels.classes import ClassMap
from unet_ray.labels.scheme import generate_palette, make_class_map

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
