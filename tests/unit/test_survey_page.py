"""The findings as a page and as text, from data alone."""

import re
from typing import Any

import numpy as np
import pytest
import yaml

from tests.unit.test_report_page import HOSTILE, Page, allowed_scripts, decode
from unet_ray.config_file import parse_config
from unet_ray.survey.findings import ClassRow, Fault, Findings, Leak, SplitRow, ValueRow
from unet_ray.survey.page import Example, PageContent, draw_stored, render_page
from unet_ray.survey.schemes import Purity
from unet_ray.survey.suggestion import Suggestion
from unet_ray.survey.text import findings_text, suggestion_yaml


def findings(name: str = "road", **changes: Any) -> Findings:
    fault = Fault(code=name, images=7, examples=[(name, name)])
    everything: dict[str, Any] = {
        "problems": [f"1 mask holds {name}"],
        "images": 3,
        "masks": 2,
        "forms": {"colours": 2},
        "sizes": {"2x3": 2},
        "num_values": 4096,
        "values_exact": False,
        "values": [ValueRow(value=[1, 2, 3], class_name=name, pixels=1_234, share=0.25, images=2)],
        "cells": [ValueRow(value=[0, 0, 0], class_name=None, pixels=2_000, share=0.5, images=2)],
        "unknown": fault,
        "splits": [
            SplitRow(split="train", images=3, masks=2, ignored_pixels=5, unknown_pixels=6, missing_classes=[name])
        ],
        "classes": [
            ClassRow(name=name, colour=(1, 2, 3), pixels={"train": 9}, images={"train": 1}, share=None, weight=0.0)
        ],
        "faults": [fault],
        "leaks": [
            Leak(
                split="val", other="train", twins=1, images=2, examples=[(name, name, 3)],
                shared_groups=1, images_in_shared_groups=2,
            )
        ],
        "purity": [Purity("palette, exact", None, "pixels of a known colour")],
        "suggestion": Suggestion({"classes": [name], "ignore_ids": [255]}, name),
        "listing": {},
    }  # fmt: skip
    return Findings(**{**everything, **changes})


def content(name: str = "road", **changes: Any) -> PageContent:
    stored = np.array([[0, 1, 300], [0, 1, 2]], np.uint16)
    class_ids = np.array([[0, 0, 255], [0, 0, 0]], np.uint8)
    image = np.full((2, 3, 3), 200, np.uint8)
    example = Example(image_id=name, image=image, stored=stored, class_ids=class_ids)
    return PageContent(name, [("input", name)], findings(name, **changes), [example], [name], [(9, 8, 7)])


@pytest.fixture(scope="module")
def html() -> str:
    return render_page(content())


def test_the_page_has_every_section_and_an_example_of_three_pictures(html: str) -> None:
    page = Page(html)
    assert list(page.sections) == [
        "input", "problems", "examples", "values", "classes", "leaks", "schemes", "suggestion",
    ]  # fmt: skip
    assert page.count("img") == 3
    assert "1 of 2 val images have a near duplicate in train" in page.sections["leaks"]
    assert "others are lower bounds" in page.sections["values"]
    assert "ignore_ids: [255]" in page.sections["suggestion"]
    labels = [attributes["src"] for tag, attributes in page.elements if tag == "img"][2]
    assert labels
    assert np.asarray(decode(labels).convert("RGBA"))[0].tolist() == [[9, 8, 7, 255], [9, 8, 7, 255], [0, 0, 0, 0]]


def test_the_page_of_an_input_without_a_readable_mask_says_so() -> None:
    nothing = findings(
        problems=[], values=[], cells=[], unknown=None, faults=[], classes=[], leaks=[], purity=[], suggestion=None
    )
    page = Page(render_page(PageContent("run", [], nothing, [], [], [])))
    assert all(re.search(r"\w\.\s*$", page.sections[name]) for name in ("problems", "examples", "values", "leaks"))
    assert page.count("img") == 0


def test_text_from_outside_is_inert_and_the_page_forbids_other_scripts_and_requests() -> None:
    html = render_page(content(HOSTILE))
    page = Page(html)
    assert page.count("script") == len(allowed_scripts(html)) == 1
    assert page.count("img") == 3
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert HOSTILE in page.sections["problems"]


def test_ids_are_drawn_in_colours_of_their_own_and_colours_as_they_are() -> None:
    ids = draw_stored(np.array([[0, 1, 2]], np.uint16))
    assert len({tuple(pixel) for pixel in ids[0].tolist()}) == 3
    colours = np.arange(6, dtype=np.uint8).reshape(1, 2, 3)
    assert draw_stored(colours) is colours


def test_the_text_says_what_is_wrong_and_what_would_fit() -> None:
    text = findings_text(findings())
    assert re.search(r"\(1, 2, 3\) +road +1,234 +25.00% +2\n", text)
    assert "val / train: road and road (3 bits apart)" in text
    assert "1 problem\n- 1 mask holds road" in text
    assert text.endswith("suggested labels (road):\nlabels:\n  classes: [road]\n  ignore_ids: [255]")


def test_the_suggestion_is_a_document_that_a_configuration_takes() -> None:
    found = findings(name="null: [x]")
    config = parse_config(yaml.safe_load(suggestion_yaml(found)), {}, "test")
    assert config.labels.classes == ("null: [x]",)
    short = Suggestion({"preset": "voc", "scheme": "ids"}, "so")
    assert suggestion_yaml(findings(suggestion=short)) == "labels:\n  preset: voc\n  scheme: ids\n"
    assert suggestion_yaml(findings(suggestion=None)) == ""
