"""The class table as plain text, for a terminal or a log."""

from collections.abc import Sequence

from unet_ray.report.content import ClassRow


def class_table(classes: Sequence[ClassRow], scores: Sequence[tuple[str, float | None]]) -> str:
    """Align one line per class, then one line per score, under a shared set of columns.

    An undefined IoU or score is a dash. Lines have no trailing blanks, and there is no final newline.
    """
    header = ("class", "TP", "FP", "FN", "IoU")
    body = [(row.name, f"{row.tp:,}", f"{row.fp:,}", f"{row.fn:,}", _ratio(row.iou)) for row in classes]
    footer = [(name, "", "", "", _ratio(value)) for name, value in scores]

    widths = [max(map(len, column)) for column in zip(header, *body, *footer, strict=True)]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))

    def line(cells: tuple[str, ...]) -> str:
        name, *numbers = (
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join([name, *numbers]).rstrip()

    return "\n".join([line(header), rule, *map(line, body), rule, *map(line, footer)])


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
