"""One HTML document from a template beside its caller: no request, and nothing that runs but our own few lines."""

import base64
import hashlib
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

DASH = Markup("&ndash;")


def render_template(folder: Path, name: str, **values: Any) -> str:
    """Render a template that extends ``base.html.j2`` as a document that can be mailed, archived and opened from disk.

    Everything is inline, and the page forbids itself requests and every script but ``page.js``, by its hash. That sorts
    tables of the class ``sortable`` and lays pictures over that of a ``wipe`` figure; without it the page is whole.
    Text is escaped. Filters: ``ratio`` shows None as a dash, ``count`` separates thousands.
    """
    script = (Path(__file__).parent / "page.js").read_text()
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, Path(__file__).parent]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(ratio=_ratio, count="{:,}".format)
    return environment.get_template(name).render(script=Markup(script), script_hash=_hash(script), **values)


def _hash(script: str) -> str:
    """Return the source expression of Content Security Policy that allows a script (W3C CSP level 3, section 2.3.1)."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


def _ratio(value: float | None) -> str:
    return DASH if value is None else f"{value:.3f}"
