"""The report as one self-contained HTML page."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from unet_ray.html.page import DASH, render_template
from unet_ray.report.content import (
    ClassRow,
    History,
    Panel,
    PanelKind,
    ReportContent,
    SequenceRow,
    Sequences,
    epochs,
    series,
)
from unet_ray.report.figures import (
    UNSURE_COLOUR,
    WRONG_COLOUR,
    PanelUris,
    curves_svg,
    error_share,
    panel_data_uris,
    reliability_svg,
    strip_uri,
)
from unet_ray.report.text import certainty
from unet_ray.stability import LARGE

_SECTIONS = (
    "Run", "Job", "Training", "Classes", "Confusion", "Calibration", "Sequences", "Drift", "Frames", "Quarantine",
    "Notes",
)  # fmt: skip
_KINDS: dict[PanelKind, str] = {
    "best": "Best frames",
    "worst": "Worst frames",
    "uncertain": "Most uncertain frames",
    "random": "Random frames",
}


class Cell(NamedTuple):
    """One cell of the confusion matrix: percent as text, shade in 0..1, the counts in words."""

    percent: str
    shade: float
    title: str


class Row(NamedTuple):
    """One true class of the confusion matrix; ``cells`` are in the order of the classes."""

    truth: ClassRow
    pixels: int
    cells: list[Cell]


class PanelView(NamedTuple):
    """One frame as the page shows it."""

    panel: Panel
    uris: PanelUris
    wrong: float | None


class StripView(NamedTuple):
    """A strip as the page shows it, and what it says in words."""

    uri: str
    title: str


class Ramp(NamedTuple):
    """The colours of all strips, and the values at their ends."""

    uri: str
    low: str
    high: str


def render_page(content: ReportContent) -> str:
    """Render a report as an HTML document (see `html.page`).

    A section without data says so; an undefined value is a dash, never zero.
    """
    strips, ramp = _strips(content.sequences)
    return render_template(
        Path(__file__).parent,
        "page.html.j2",
        sections=_SECTIONS,
        content=content,
        certainty=certainty,
        strips=strips,
        ramp=ramp,
        has_truth=bool(content.confusion.any()),
        predicted=sum(row.predicted for row in content.classes),
        confusion=list(_confusion_rows(content)),
        curves=Markup(curves_svg(content.history)) if content.history else None,
        reliability=Markup(reliability_svg(content.calibration)) if content.calibration.error is not None else None,
        history_summary=_history_summary(content.history),
        groups=_panel_groups(content),
        wrong_colour=WRONG_COLOUR,
        unsure_colour=UNSURE_COLOUR,
        large_shift=LARGE,
    )


def confusion_shares(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Divide each row of (K, K) counts by its sum; rows without truth are NaN."""
    pixels = confusion.sum(axis=1, keepdims=True)
    shares = np.full(confusion.shape, np.nan)
    np.divide(confusion, pixels, out=shares, where=pixels > 0)
    return shares


def _confusion_rows(content: ReportContent) -> Iterator[Row]:
    classes = content.classes
    shares = confusion_shares(content.confusion)
    for truth, row_counts, row_shares in zip(classes, content.confusion, shares, strict=True):
        cells = [
            _cell(truth, predicted, int(count), float(share))
            for predicted, count, share in zip(classes, row_counts, row_shares, strict=True)
        ]
        yield Row(truth, int(row_counts.sum()), cells)


def _cell(truth: ClassRow, predicted: ClassRow, count: int, share: float) -> Cell:
    if math.isnan(share):
        return Cell(DASH, 0.0, f"{truth.name}: no true pixels")
    title = f"{truth.name} predicted as {predicted.name}: {count:,} px, {share:.2%}"
    return Cell(_percent(share), math.sqrt(share), title)  # the root lets a few percent of confusion show


def _percent(share: float) -> str:
    if 0 < share < 0.005:
        return "<1"
    if 0.995 < share < 1:
        return ">99"
    return f"{share:.0%}"[:-1]


def _history_summary(history: History) -> str:
    last = int(epochs(history).max(initial=0))  # epoch 0 only validates
    length = "1 epoch" if last == 1 else f"{last} epochs"
    skipped = int(np.nansum(series(history, "skipped_steps")))
    warning = f" Steps skipped for want of a finite loss or gradient: {skipped:,}." if skipped else ""
    miou = series(history, "miou")
    if np.isnan(miou).all():
        return f"{length}.{warning}"
    best = int(np.nanargmax(miou))
    return f"{length}; best validation mIoU {miou[best]:.3f} in epoch {epochs(history)[best]:.0f}.{warning}"


def _strips(sequences: Sequences) -> tuple[list[tuple[SequenceRow, StripView]], Ramp | None]:
    """Draw all strips in the same colours; without any value there is no ramp."""
    values = np.concatenate([row.strip.values for row in sequences.rows] or [np.empty(0)])
    known = values[~np.isnan(values)]
    low, high = (known.min(), known.max()) if known.size else (0.0, 1.0)
    views = [
        (row, StripView(strip_uri(row.strip.values, low, high), _strip_title(row, sequences.measure)))
        for row in sequences.rows
    ]
    ramp = Ramp(strip_uri(np.linspace(0, 1, 97), 0, 1), f"{low:.3f}", f"{high:.3f}") if known.size else None
    return views, ramp


def _strip_title(row: SequenceRow, measure: str) -> str:
    frames = "1 frame" if row.frames == 1 else f"{row.frames:,} frames"
    if row.strip.lowest is None:
        return f"{frames}, none with {measure}"
    return f"{frames}, lowest {measure} {np.nanmin(row.strip.values):.3f} at {row.strip.lowest}"


def _panel_groups(content: ReportContent) -> list[tuple[str, list[PanelView]]]:
    palette = {row.class_id: row.colour for row in content.classes}
    groups = {kind: [panel for panel in content.panels if panel.kind == kind] for kind in _KINDS}
    return [
        (
            _KINDS[kind],
            [PanelView(panel, panel_data_uris(panel, palette), error_share(panel)) for panel in panels],
        )
        for kind, panels in groups.items()
        if panels
    ]
