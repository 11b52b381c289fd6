"""The report in a real browser: it renders from disk, its own script runs, and nothing else does."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.unit.browser import CHROMIUM, Browser, open_browser
from tests.unit.test_report_page import content, panel
from tests.unit.test_survey_page import content as survey_content
from unet_ray.report.page import render_page
from unet_ray.survey.page import render_page as render_survey_page

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")

PHOTO, PREDICTED = (200, 0, 0), (64, 64, 128)  # the latter is the colour of class 2
HEADING = 'document.querySelectorAll("#classes thead th")[{}]'
NAMES = '[...document.querySelectorAll("#classes tbody th")].map((one) => one.textContent)'
WIPE = 'document.querySelector("figure.wipe {}")'
ENTER = ("Enter", 13, "\r")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with open_browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with twelve frames, whose photos have one colour, and what is predicted another."""
    size = (360, 480)
    classes = np.kron(np.random.default_rng(0).integers(3, size=(36, 48)), np.ones((10, 10))).astype(np.uint8)
    frames = tuple(
        panel(
            image=np.full((*size, 3), PHOTO, np.uint8),
            true_mask=classes,
            pred_mask=np.full(size, 2, np.uint8),
            confidence_map=classes * 100,
        )
        for _ in range(12)
    )
    path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_text(render_page(content(panels=frames)))
    assert path.stat().st_size < 5_000_000
    return path


@pytest.mark.parametrize(("dark", "brightness"), [(False, 240), (True, 20)])
@pytest.mark.parametrize("width", [1200, 400])
def test_the_page_renders_from_disk_in_light_and_dark_and_fits_its_window(
    browser: Browser, page: Path, width: int, dark: bool, brightness: int
) -> None:
    browser.open(page, dark=dark, width=width)
    seen = np.asarray(browser.picture())
    assert abs(int(np.median(seen)) - brightness) < 20
    assert len(np.unique(seen.reshape(-1, 3), axis=0)) > 50
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate("[...document.images].every((one) => one.complete && one.naturalWidth > 0)")
    assert browser.errors == []


def test_a_click_on_a_heading_sorts_and_another_turns_the_order_what_is_undefined_stays_last(
    browser: Browser, page: Path
) -> None:
    browser.open(page)
    assert browser.evaluate(NAMES) == ["sky", "road", "fence"]
    iou = HEADING.format(1)
    assert browser.evaluate(f"{iou}.textContent") == "IoU"
    browser.evaluate(f'{iou}.querySelector("button").click()')
    assert browser.evaluate(NAMES) == ["road", "sky", "fence"]
    assert browser.evaluate(f"{iou}.ariaSort") == "ascending"
    browser.evaluate(f'{iou}.querySelector("button").click()')
    assert browser.evaluate(NAMES) == ["sky", "road", "fence"]
    assert browser.evaluate(f"{iou}.ariaSort") == "descending"
    assert browser.evaluate(f"{HEADING.format(0)}.ariaSort") is None
    assert browser.errors == []


def test_the_keyboard_sorts_too_and_names_are_in_their_order(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.evaluate(f'{HEADING.format(0)}.querySelector("button").focus()')
    browser.press(*ENTER)
    assert browser.evaluate(NAMES) == ["fence", "road", "sky"]
    browser.evaluate(f'{HEADING.format(5)}.querySelector("button").focus()')
    browser.press(*ENTER)
    assert browser.evaluate(NAMES) == ["fence", "road", "sky"]  # by TP: 0, 1,500 and 9,000
    assert browser.evaluate(f"{HEADING.format(0)}.ariaSort") is None


def look_at_the_photo(browser: Browser) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the colours of the first frame's picture near its left and its right edge."""
    browser.evaluate(f'{WIPE.format(".stage")}.scrollIntoView({{block: "center", behavior: "instant"}})')
    box = browser.evaluate(f"{WIPE.format('.stage')}.getBoundingClientRect().toJSON()")
    seen = browser.picture()
    y = int(box["top"] + box["height"] / 2)
    left, right = (seen.getpixel((int(box["left"] + share * box["width"]), y)) for share in (0.1, 0.9))
    return left, right  # type: ignore[return-value]


def near(found: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return max(abs(one - other) for one, other in zip(found, wanted, strict=True)) < 12


def test_the_prediction_is_wiped_over_the_photo_by_mouse_and_by_keyboard(browser: Browser, page: Path) -> None:
    browser.open(page)
    left, right = look_at_the_photo(browser)
    assert near(left, PHOTO)
    assert near(right, PREDICTED)
    browser.evaluate(f"{WIPE.format('input')}.focus()")
    browser.press("End", 35)
    left, right = look_at_the_photo(browser)
    assert near(left, PHOTO)
    assert near(right, PHOTO)
    box = browser.evaluate(f"{WIPE.format('.stage')}.getBoundingClientRect().toJSON()")
    x, y = box["left"] + 0.02 * box["width"], box["top"] + box["height"] / 2
    for kind in ("mousePressed", "mouseReleased"):
        browser.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
    left, right = look_at_the_photo(browser)
    assert near(left, PREDICTED)
    assert near(right, PREDICTED)
    labels = browser.evaluate(f"[...{WIPE.format('select')}.options].map((one) => one.text)")
    assert labels == ["Truth", "Prediction", "Error", "Confidence"]
    assert browser.errors == []


def test_without_its_script_the_page_is_whole(browser: Browser, page: Path) -> None:
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page)
        assert browser.evaluate('document.querySelectorAll("button, input, select").length') == 0
        left, right = look_at_the_photo(browser)
        assert near(left, PHOTO)
        assert near(right, PHOTO)
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)


def test_another_script_does_not_run(browser: Browser, page: Path, tmp_path: Path) -> None:
    changed = tmp_path / "index.html"
    html = page.read_text()
    changed.write_text(html.replace("</main>", "</main><script>document.title = 'hostile'</script>"))
    browser.open(changed)
    assert browser.evaluate("document.title") == "CamVid"
    assert len(browser.errors) == 1
    assert "Content Security Policy" in browser.errors[0]
    assert browser.evaluate('document.querySelectorAll("th button").length') > 0


def test_the_pages_of_a_report_without_anything_and_of_the_survey_render(browser: Browser, tmp_path: Path) -> None:
    for name, html in (
        ("report", render_page(content(panels=(), history=(), job=None, quarantined=(), quarantined_total=0))),
        ("survey", render_survey_page(survey_content())),
    ):
        path = tmp_path / f"{name}.html"
        path.write_text(html)
        browser.open(path, width=400)
        assert browser.errors == []
        assert browser.evaluate("document.documentElement.scrollWidth") <= 400
