"""The scores as plain text, for a terminal or a log."""

import textwrap
from collections.abc import Sequence

from unet_ray.columns import align
from unet_ray.intervals import Interval
from unet_ray.report.content import ClassRow, Facts, Headline, Step

_WIDTH = 100


def class_table(classes: Sequence[ClassRow], headlines: Sequence[Headline]) -> str:
    """Align one line per class, then one line per score, under a shared set of columns.

    What is undefined is a dash. Lines have no trailing blanks, and there is no final newline.
    """
    header = ("class", "TP", "FP", "FN", "IoU", "Dice", "precision", "recall")
    body = [_cells(row) for row in classes]
    footer = [(one.name, "", "", "", _ratio(one.value), "", "", "") for one in headlines]

    lines = align([header, *body, *footer])
    rule = "-" * max(map(len, lines))
    end = 1 + len(body)
    return "\n".join([lines[0], rule, *lines[1:end], rule, *lines[end:]])


def legacy_table(steps: Sequence[Step]) -> str:
    """Align one line per step; empty without any."""
    if not steps:
        return ""
    ratios = [(one.scores.miou, one.scores.object_miou, one.scores.pixel_accuracy) for one in steps]
    body = [(one.rule, *map(_ratio, found)) for one, found in zip(steps, ratios, strict=True)]
    return "\n".join(align([("counted", "mIoU", "object mIoU", "pixel accuracy"), *body]))


def certainty(headline: Headline) -> str:
    """Return the intervals of a score: "95 %: 0.640-0.680 over frames, 0.600-0.710 over 4 sequences"; empty without."""
    over = ((headline.over_frames, "frames"), (headline.over_groups, f"{headline.groups:,} sequences"))
    known = [f"{_span(interval)} over {units}" for interval, units in over if interval is not None]
    return f"95 %: {', '.join(known)}" if known else ""


def card_text(headlines: Sequence[Headline], card: Facts) -> str:
    """Return how certain the scores are and how they were counted, a name to the left of each; empty without truth."""
    known = [(one.name, certainty(one)) for one in headlines if certainty(one)]
    rows = [*known, *card]
    if not rows:
        return ""
    left = max(len(name) for name, _ in rows) + 2
    return "\n".join(
        textwrap.fill(text, _WIDTH, initial_indent=name.ljust(left), subsequent_indent=" " * left)
        for name, text in rows
    )


def _cells(row: ClassRow) -> tuple[str, ...]:
    one = row.score
    counts = (f"{pixels:,}" for pixels in (one.tp, one.fp, one.fn))
    return (row.name, *counts, *map(_ratio, (one.iou, one.dice, one.precision, one.recall)))


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _span(interval: Interval) -> str:
    return f"{interval.low:.3f}-{interval.high:.3f}"
