"""The class table as plain text, for a terminal or a log."""

from collections.abc import Sequence

from unet_ray.columns import align
from unet_ray.report.content import ClassRow


def class_table(classes: Sequence[ClassRow], scores: Sequence[tuple[str, float | None]]) -> str:
    """Align one line per class, then one line per score, under a shared set of columns.

    An undefined IoU or score is a dash. Lines have no trailing blanks, and there is no final newline.
    """
    header = ("class", "TP", "FP", "FN", "IoU")
    body = [(row.name, f"{row.tp:,}", f"{row.fp:,}", f"{row.fn:,}", _ratio(row.iou)) for row in classes]
    footer = [(name, "", "", "", _ratio(value)) for name, value in scores]

    lines = align([header, *body, *footer])
    rule = "-" * max(map(len, lines))
    end = 1 + len(body)
    return "\n".join([lines[0], rule, *lines[1:end], rule, *lines[end:]])


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
