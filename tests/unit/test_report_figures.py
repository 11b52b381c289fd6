"""The figures of a report: curves, masks, maps and strips, from data alone."""

import re
from xml.etree import ElementTree

import numpy as np

from tests.unit.test_report_page import CALIBRATION, HISTORY, PALETTE, decode, panel
from unet_ray.report.figures import (
    UNSURE_COLOUR,
    WRONG_COLOUR,
    curves_svg,
    error_share,
    panel_data_uris,
    reliability_svg,
    strip_uri,
)


def test_curves_are_one_reproducible_svg_element() -> None:
    svg = curves_svg(HISTORY)
    assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
    assert svg == curves_svg(HISTORY)


def test_the_reliability_is_one_reproducible_svg_element_with_a_bar_for_every_bin_that_has_pixels() -> None:
    svg = reliability_svg(CALIBRATION)
    assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
    assert svg == reliability_svg(CALIBRATION)
    assert len(re.findall(r'id="patch_\d+">\s*<path [^>]*clip-path[^>]*fill: #3b82f6', svg)) == 2


def test_a_curve_nobody_recorded_says_so() -> None:
    assert curves_svg(HISTORY).count("not recorded") == 1
    unfinished = ({"train_loss": 1.0, "miou": None}, {"train_loss": float("nan"), "miou": None})
    assert curves_svg(unfinished).count("not recorded") == 3


def test_masks_are_drawn_in_their_palette_and_ignored_pixels_are_clear() -> None:
    uris = panel_data_uris(panel(), PALETTE)
    assert uris.truth
    truth = np.asarray(decode(uris.truth).convert("RGBA"))
    assert truth[0].tolist() == [[128, 128, 128, 255], [128, 64, 128, 255], [0, 0, 0, 0]]
    prediction = np.asarray(decode(uris.prediction).convert("RGB"))
    assert prediction[1].tolist() == [[128, 128, 128], [128, 64, 128], [64, 64, 128]]
    assert decode(uris.image).format == "JPEG"


def test_error_map_marks_wrong_pixels_and_leaves_ignored_ones_clear() -> None:
    uris = panel_data_uris(panel(), PALETTE)
    assert uris.error
    error = np.asarray(decode(uris.error).convert("RGBA"))
    assert error[0].tolist() == [[255, 255, 255, 255], [*WRONG_COLOUR, 255], [0, 0, 0, 0]]
    assert error[1].tolist() == [[255, 255, 255, 255], [255, 255, 255, 255], [0, 0, 0, 0]]


def test_large_pictures_are_shrunk_without_inventing_classes() -> None:
    mask = np.zeros((1000, 2000), np.uint8)
    mask[:, 1000:] = 2
    large = panel(image=np.zeros((1000, 2000, 3), np.uint8), true_mask=mask, pred_mask=mask)
    uris = panel_data_uris(large, PALETTE)
    assert decode(uris.image).size == (480, 240)
    colours = decode(uris.prediction).convert("RGB").getcolors()
    assert colours
    assert sorted(colour for _, colour in colours) == [(64, 64, 128), (128, 128, 128)]


def test_the_confidence_map_goes_from_white_to_unsure() -> None:
    uris = panel_data_uris(panel(confidence_map=np.array([[255, 128, 0], [255, 250, 240]], np.uint8)), PALETTE)
    assert uris.confidence
    sure, half, unsure = np.asarray(decode(uris.confidence).convert("RGB"))[0].tolist()
    assert (sure, unsure) == ([255] * 3, [*UNSURE_COLOUR])
    assert all(low < middle < high for low, middle, high in zip(unsure, half, sure, strict=True))
    assert panel_data_uris(panel(), PALETTE).confidence is None


def test_a_strip_goes_from_orange_to_blue_and_is_grey_where_nothing_is_known() -> None:
    row = np.asarray(decode(strip_uri(np.array([0.2, np.nan, 0.8, 0.5]), 0.2, 0.8)))
    assert row.shape == (1, 4, 3)
    low, unknown, high, middle = row[0].tolist()
    assert low[0] > low[2]
    assert high[0] < high[2]
    assert max(unknown) - min(unknown) < 20 < min(middle)
    alike = np.asarray(decode(strip_uri(np.array([0.5, 0.5, np.nan]), 0.5, 0.5)))
    assert alike[0].tolist() == [high, high, unknown]


def test_error_share_counts_labelled_pixels_only() -> None:
    assert error_share(panel()) == 0.25
    assert error_share(panel(true_mask=None)) is None
    assert error_share(panel(true_mask=np.full((2, 3), 255, np.uint8))) is None
