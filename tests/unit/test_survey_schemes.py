import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.unit.image_files import blobs, encode
from unet_ray.labels.presets import PRESETS
from unet_ray.survey.schemes import find_peaks, fit_preset, fit_preset_to_lossy, measure_colours

COLOURS = [(0, 0, 0), (250, 40, 40), (40, 200, 60), (30, 60, 240)]


def lossy(colours: list[tuple[int, int, int]]) -> NDArray[np.uint8]:
    """Return pixels of JPEG masks of some colours."""
    files = [encode(np.array(colours, np.uint8)[blobs(len(colours), 160, 240, seed)], "JPEG") for seed in range(4)]
    return np.concatenate([np.asarray(Image.open(io.BytesIO(data))).reshape(-1, 3)[::13] for data in files])


def test_each_scheme_is_scored_by_the_pixels_it_explains() -> None:
    pixels = np.array([(10, 0, 0)] * 6 + [(12, 0, 0)] * 2 + [(200, 100, 0), (0, 0, 255)], np.uint8)
    scores = measure_colours(pixels, [(10, 0, 0)], bin_width=20, clusters=2, seed=0)
    assert [(row.scheme, row.share) for row in scores] == [
        ("palette, exact", 0.6),
        ("palette, within 40", 0.8),
        ("kmeans, 2 clusters", pytest.approx(0.9)),
        ("bins of 20", 0.7),
        ("channel", 0.9),
    ]
    assert measure_colours(pixels, [], bin_width=20, clusters=2, seed=0)[0].share is None


def test_the_colours_behind_a_jpeg_are_found_and_not_those_of_its_edges() -> None:
    peaks = find_peaks(lossy(COLOURS))
    np.testing.assert_allclose(sorted(peaks), sorted(COLOURS), atol=4)


def test_ids_fit_a_preset_when_most_of_its_labels_occur() -> None:
    fit = fit_preset(range(12), [10] * 12)
    assert fit is not None
    assert (fit.preset, fit.share) == ("camvid_11", 1.0)
    assert fit_preset([0, 1, 2], [10, 10, 10]) is None
    assert fit_preset([*range(11), 77], [10] * 12) is None
    nearly = fit_preset([*range(12), 77], [10] * 12 + [1])
    assert nearly is not None
    assert nearly.share == 120 / 121


def test_colours_fit_a_preset_when_three_of_its_own_occur() -> None:
    fit = fit_preset([(128, 128, 128), (128, 0, 0), (60, 40, 222), (0, 0, 0)], [5, 5, 5, 5])
    assert fit is not None
    assert fit.preset == "camvid_11"
    assert fit_preset([(0, 0, 0), (128, 0, 0)], [5, 5]) is None


def test_lossy_colours_fit_the_preset_they_are_near() -> None:
    names = ("road", "sidewalk", "building", "vegetation", "sky", "car", "person", "unlabeled")
    colours = [label.colour for label in PRESETS["cityscapes_34"].labels if label.name in names]
    fit = fit_preset_to_lossy(lossy(colours))
    assert fit is not None
    assert fit.preset == "cityscapes_34"
    assert fit_preset_to_lossy(lossy(COLOURS)) is None
