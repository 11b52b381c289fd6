"""The report as a page, a table and figures, from data alone."""

import base64
import hashlib
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from unet_ray.calibration import calibrate
from unet_ray.drift import Drift, GroupShift
from unet_ray.intervals import Interval
from unet_ray.metrics import ClassScore, score
from unet_ray.reference import Shift
from unet_ray.report.content import (
    ClassRow,
    Headline,
    Job,
    JobStage,
    Panel,
    Quarantined,
    ReportContent,
    SequenceRow,
    Sequences,
    Step,
    Strip,
)
from unet_ray.report.page import confusion_shares, render_page
from unet_ray.report.text import certainty, legacy_table

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
SECTIONS = (
    "run", "job", "training", "classes", "confusion", "calibration", "sequences", "drift", "frames", "quarantine",
    "notes",
)  # fmt: skip

CLASSES = (
    ClassRow(
        class_id=0, name="sky", colour=(128, 128, 128), predicted=9_500, confidence=0.9375,
        score=ClassScore(tp=9_000, fp=500, fn=1_000, iou=9_000 / 10_500),
    ),
    ClassRow(
        class_id=1, name="road", colour=(128, 64, 128), predicted=2_500, confidence=0.625,
        score=ClassScore(tp=1_500, fp=1_000, fn=500, iou=0.5),
    ),
    ClassRow(
        class_id=2, name="fence", colour=(64, 64, 128), predicted=0, confidence=None,
        score=ClassScore(tp=0, fp=0, fn=0, iou=None),
    ),
)  # fmt: skip
HEADLINES = (
    Headline(
        name="mIoU", value=0.6786, over_frames=Interval(low=0.64, high=0.7), over_groups=Interval(low=0.6, high=0.72),
        groups=4,
    ),
    Headline(name="object mIoU", value=0.5, over_frames=Interval(low=0.25, high=0.75)),
    Headline(name="pixel accuracy", value=None),
)  # fmt: skip
CARD = (("counted", "12,000 labelled pixels of 2 frames"), ("absent classes", "left out of the mean: fence"))
JOB = Job(
    facts=(("rate", "7.0 frames/s"),),
    stages=(
        JobStage(
            name="infer", processes=2, seconds=3.25, cpu_seconds=5.5, busy=0.875, bytes_read=8_429_277, outlasted=3
        ),
    ),
)
SEQUENCES = Sequences(
    rows=(
        SequenceRow(
            group="seq_4", frames=1_200, quarantined=2, miou=0.4375, confidence=0.8125, expected_miou=0.5,
            flicker=0.0625, strip=Strip(values=np.array([0.25, np.nan, 0.75]), lowest="frame 7"),
        ),
        SequenceRow(
            group="", frames=1, quarantined=0, miou=None, confidence=None, expected_miou=None, flicker=None,
            strip=Strip(values=np.array([np.nan]), lowest=None),
        ),
    ),
    total=60,
    measure="mIoU",
)  # fmt: skip
CONFUSION = np.array([[9_000, 1_000, 0], [500, 1_500, 0], [0, 0, 0]], dtype=np.int64)
CALIBRATION = calibrate([*[0] * 13, 2_000, 8_000, *[0] * 13, 1_500, 7_000, *[0] * 13, 475_000, 1_990_000])
HISTORY = tuple(
    {"epoch": epoch, "train_loss": 2 / epoch, "val_loss": 3 / epoch, "miou": epoch / 9, "lr": 1e-3}
    for epoch in (1, 2, 3)
)
BRIGHTER = Shift(number="brightness", index=1.25, by_chance=0.2, mean=0.75, reference_mean=0.5)
DRIFT = Drift(
    table="s3://models/predictions", reference=None, frames=1_200, reference_frames=101, largest=1.25,
    shifts=(BRIGHTER, Shift(number="size", index=0.3, by_chance=0.4, mean=None, reference_mean=None)),
    shifted_groups=12, groups=(GroupShift(group="seq_4", frames=50, shift=BRIGHTER),),
)  # fmt: skip
PALETTE = {row.class_id: row.colour for row in CLASSES}


def panel(**changes: object) -> Panel:
    true_mask = np.array([[0, 1, 255], [0, 1, 255]], dtype=np.uint8)
    pred_mask = np.array([[0, 0, 0], [0, 1, 2]], dtype=np.uint8)
    image = np.full((2, 3, 3), 255, dtype=np.uint8)
    frame = Panel(
        kind="best", image_id="a.jpg", miou=0.25, confidence=0.75, image=image, true_mask=true_mask, pred_mask=pred_mask
    )
    return replace(frame, **changes)  # type: ignore[arg-type]


def content(**changes: object) -> ReportContent:
    report = ReportContent(
        title="CamVid",
        headlines=HEADLINES,
        metric_card=CARD,
        facts=(("checkpoint", "s3://models/unet"),),
        job=JOB,
        classes=CLASSES,
        legacy=(),
        confusion=CONFUSION,
        calibration=CALIBRATION,
        sequences=SEQUENCES,
        drift=DRIFT,
        history=HISTORY,
        panels=(panel(), panel(kind="random", image_id="b.jpg", true_mask=None, miou=None)),
        quarantined=(Quarantined(image_id="bad.jpg", error_code="truncated", error_message="ends after 9 bytes"),),
        quarantined_total=7,
        notes=("Ignored pixels count nowhere.",),
    )
    return replace(report, **changes)  # type: ignore[arg-type]


class Page(HTMLParser):
    """What a browser would see: elements by tag, and the text of each section."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.sections: dict[str, str] = {}
        self._section: str | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "section":
            self._section = dict(attrs)["id"]

    def handle_endtag(self, tag: str) -> None:
        if tag == "section":
            self._section = None

    def handle_data(self, data: str) -> None:
        if self._section:
            self.sections[self._section] = self.sections.get(self._section, "") + data

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)


@pytest.fixture(scope="module")
def html() -> str:
    return render_page(content())


@pytest.fixture(scope="module")
def empty_html() -> str:
    nothing = content(
        headlines=(Headline(name="mIoU", value=None),),
        metric_card=(),
        facts=(),
        job=None,
        sequences=Sequences(rows=(), total=0, measure="confidence"),
        classes=tuple(replace(row, predicted=0, confidence=None) for row in CLASSES),
        confusion=np.zeros((3, 3), np.int64),
        calibration=calibrate([0] * 45),
        drift=None,
        history=(),
        panels=(),
        quarantined=(),
        quarantined_total=0,
        notes=(),
    )
    return render_page(nothing)


def decode(uri: str) -> Image.Image:
    head, data = uri.split(",")
    assert head in ("data:image/png;base64", "data:image/jpeg;base64")
    return Image.open(io.BytesIO(base64.b64decode(data)))


def sha256(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def allowed_scripts(html: str) -> list[str]:
    """The hashes of the scripts that a page may run; nothing else may run, or be loaded."""
    rules = re.search(r'content="default-src \'none\'; (script-src [^"]*)"', html)
    assert rules
    found = re.fullmatch(
        r"script-src 'sha256-([^']*)'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'",
        rules[1],
    )
    assert found
    return [found[1]]


# The page


def test_page_has_every_section_and_its_data(html: str) -> None:
    sections = Page(html).sections
    assert tuple(sections) == SECTIONS
    assert "s3://models/unet" in sections["run"]
    assert "3 epochs; best validation mIoU 0.333 in epoch 3." in sections["training"]
    assert "9,000" in sections["classes"]
    assert "8.4 MB" in sections["job"]
    assert "88%" in sections["job"]
    assert "The worst 2 of 60, 58 are left out." in " ".join(sections["sequences"].split())
    assert "10,000" in sections["confusion"]
    assert "Mean distance: 0.117." in sections["calibration"]
    drift = " ".join(sections["drift"].split())
    assert "How far these 1,200 frames are from the 101 that the network was validated on" in drift
    assert "Groups that shifted: 12, the first 1 listed" in drift
    assert html.count('class="shifted"') == 1  # the size has moved no further than chance explains
    assert "25.0% of labelled pixels" in sections["frames"]
    assert "Unusable inputs, set aside and not scored: 7, the first 1 listed." in sections["quarantine"]
    assert "Ignored pixels count nowhere." in sections["notes"]
    assert "skipped" not in sections["training"]


def test_page_says_how_many_training_steps_were_skipped() -> None:
    rows = [{**row, "skipped_steps": 600 * number} for number, row in enumerate(HISTORY)]
    text = Page(render_page(content(history=({"epoch": 0}, *rows)))).sections["training"]
    assert "Steps skipped for want of a finite loss or gradient: 1,800." in text


def test_an_empty_page_keeps_every_section_and_says_what_is_missing(empty_html: str) -> None:
    page = Page(empty_html)
    assert tuple(page.sections) == SECTIONS
    assert all(re.search(r"\w\.\s*$", text) for text in page.sections.values())
    assert page.count("table") == page.count("svg") == page.count("img") == 0
    assert "How it was counted" not in empty_html


def test_undefined_values_are_dashes(html: str) -> None:
    assert '<span class="value">&ndash;</span>' in html
    assert '<td class="iou">&ndash;</td>' in html
    assert html.count('title="fence: no true pixels">&ndash;</td>') == 3
    assert ">0.000<" not in html


def pictures(html: str) -> list[str]:
    """The pictures of the frames."""
    section = html[html.index('id="frames"') : html.index('id="quarantine"')]
    return re.findall(r'<img src="([^"]*)"', section)


def test_a_frame_without_truth_has_two_pictures_and_three_dashes() -> None:
    page = render_page(content(history=(), panels=(panel(true_mask=None, miou=None),)))
    assert len(pictures(page)) == 2
    assert page.count('<div class="absent"') == 3
    assert "not stored (predict.planes)" in page
    assert "mIoU <b>&ndash;</b>" in page


def test_frames_are_grouped_best_worst_random() -> None:
    frames = tuple(panel(kind=kind) for kind in ("random", "worst", "best", "worst"))
    text = Page(render_page(content(history=(), panels=frames))).sections["frames"]
    assert text.index("Best frames") < text.index("Worst frames") < text.index("Random frames")
    assert text.count("a.jpg") == 4


def test_confusion_cells_show_percent_and_carry_counts(html: str) -> None:
    assert 'title="sky predicted as road: 1,000 px, 10.00%">10</td>' in html
    assert 'title="road predicted as road: 1,500 px, 75.00%">75</td>' in html


def test_small_confusion_is_told_from_none_and_nearly_all_from_all() -> None:
    confusion = np.array([[9_999, 1, 0], [0, 5, 0], [0, 0, 0]], dtype=np.int64)
    page = render_page(content(history=(), confusion=confusion))
    assert '9,999 px, 99.99%">&gt;99</td>' in page
    assert '1 px, 0.01%">&lt;1</td>' in page
    assert '5 px, 100.00%">100</td>' in page
    assert '0 px, 0.00%">0</td>' in page


def test_text_from_outside_is_inert() -> None:
    row = replace(CLASSES[0], name=HOSTILE)
    page = Page(
        render_page(
            content(
                title=HOSTILE,
                headlines=(replace(HEADLINES[0], name=HOSTILE),),
                metric_card=((HOSTILE, HOSTILE),),
                facts=((HOSTILE, HOSTILE),),
                job=Job(facts=((HOSTILE, HOSTILE),), stages=(replace(JOB.stages[0], name=HOSTILE),)),
                sequences=replace(SEQUENCES, rows=(replace(SEQUENCES.rows[0], group=HOSTILE),)),
                classes=(row, *CLASSES[1:]),
                panels=(panel(image_id=HOSTILE),),
                quarantined=(Quarantined(image_id=HOSTILE, error_code=HOSTILE, error_message=HOSTILE),),
                history=(),
                notes=(HOSTILE,),
            )
        )
    )
    assert page.count("script") == 1
    assert page.count("img") == 4 + 2  # a strip, and the colours of all strips
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert HOSTILE in page.sections["quarantine"]


def test_page_loads_nothing_and_forbids_loading(html: str) -> None:
    for tag, attributes in Page(html).elements:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/"))
    assert "@import" not in html
    assert set(re.findall(r"url\((.)", html)) <= {"#"}
    assert set(re.findall(r"https?://[^\"'\s<]+", html)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert allowed_scripts(html) == [sha256(inline) for inline in re.findall(r"<script>(.*?)</script>", html, re.S)]


def test_a_dozen_frames_of_pure_noise_stay_below_five_megabytes() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (480, 480, 3), dtype=np.uint8)  # the worst that JPEG and PNG can meet
    labels = np.kron(rng.integers(0, 3, (48, 48), dtype=np.uint8), np.ones((10, 10), np.uint8))
    frame = panel(image=noise, true_mask=labels, pred_mask=np.roll(labels, 7), confidence_map=noise[:, :, 0])
    nothing, one = (len(render_page(content(panels=panels))) for panels in ((), (frame,)))
    assert nothing + 12 * (one - nothing) < 5_000_000


def test_confusion_shares_are_of_the_true_class() -> None:
    np.testing.assert_array_equal(
        confusion_shares(CONFUSION), [[0.9, 0.1, 0.0], [0.25, 0.75, 0.0], [np.nan, np.nan, np.nan]]
    )


def test_each_score_says_how_certain_it_is_and_the_page_how_it_was_counted(html: str) -> None:
    assert html.count('class="certainty"') == 2
    assert certainty(HEADLINES[0]) in html
    assert "left out of the mean: fence" in html


def test_sequences_are_listed_with_strips_that_say_where_the_worst_frame_is(html: str) -> None:
    section = html[html.index('id="sequences"') : html.index('id="drift"')]
    assert 'title="1,200 frames, lowest mIoU 0.250 at frame 7"' in section
    assert 'title="1 frame, none with mIoU"' in section
    assert re.findall(r"<td>([^<]*)</td>", section)[:6] == ["0.500", "0.812", "0.062", "1,200", "2", "&ndash;"]
    assert ">none</bdi>" in section
    whole = replace(SEQUENCES, rows=SEQUENCES.rows[1:], total=1)
    assert ">all frames</bdi>" in render_page(content(history=(), sequences=whole))


def test_without_truth_the_classes_have_shares_and_confidence_alone() -> None:
    page = render_page(content(confusion=np.zeros((3, 3), np.int64)))
    section = page[page.index('id="classes"') : page.index('id="confusion"')]
    assert "No labelled pixels to score" in section
    assert re.findall(r"<td>(.*?)</td>", section) == ["79.2%", "0.938", "20.8%", "0.625", "0.0%", "&ndash;"]
    assert "IoU</th>" not in section


def test_uncertain_frames_have_a_heading_and_their_confidence() -> None:
    page = render_page(content(panels=(panel(kind="uncertain", confidence=0.515),)))
    assert "Most uncertain frames" in page
    assert "confidence <b>0.515</b>" in page


def test_the_scores_of_another_project_stand_below_the_classes() -> None:
    steps = (
        Step(rule="as counted here", scores=score(CONFUSION, 0)),
        Step(rule="accuracy alone", scores=replace(score(CONFUSION, 0), miou=None, object_miou=None)),
    )
    text = Page(render_page(content(legacy=steps))).sections["classes"]
    assert "accuracy alone" in text
    assert legacy_table(steps).splitlines()[2].split() == ["accuracy", "alone", "-", "-", "0.875"]
    assert "rules of another project" not in Page(render_page(content(legacy=()))).sections["classes"]
    assert legacy_table(()) == ""
