"""One HTML document from a template beside its caller: no script, no request, nothing that runs."""

from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

DASH = Markup("&ndash;")


def render_template(folder: Path, name: str, **values: Any) -> str:
    """Render a template that extends ``base.html.j2`` as a document that can be mailed, archived and opened from disk.

    Everything is inline, and the page forbids itself scripts and requests. Text is escaped. Filters: ``ratio`` shows
    None as a dash, ``count`` separates thousands.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, Path(__file__).parent]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(ratio=_ratio, count="{:,}".format)
    return environment.get_template(name).render(**values)


def _ratio(value: float | None) -> str:
    return DASH if value is None else f"{value:.3f}"
