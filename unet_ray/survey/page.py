"""The findings as one self-contained HTML page, with three frames to look at."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unet_ray.config_input import Colour
from unet_ray.html.page import render_template
from unet_ray.html.pictures import drawing_uri, mask_uri, photo_uri, shrink_image, shrink_mask
from unet_ray.labels.scheme import generate_palette
from unet_ray.survey.findings import Findings
from unet_ray.survey.text import suggestion_yaml, value_text

_SECTIONS = ("Input", "Problems", "Examples", "Values", "Classes", "Leaks", "Schemes", "Suggestion")


@dataclass(frozen=True, kw_only=True)
class Example:
    """A frame to look at: its photo, its mask as stored, ids or colours, and the labels made of it, if any are."""

    image_id: str
    image: NDArray[np.uint8]
    stored: NDArray[Any]
    class_ids: NDArray[np.uint8] | None


class PageContent(NamedTuple):
    """What the page shows. ``palette`` and ``names`` are those of the class_ids in the examples."""

    title: str
    facts: Sequence[tuple[str, str]]
    found: Findings
    examples: Sequence[Example]
    names: Sequence[str]
    palette: Sequence[Colour]


def render_page(content: PageContent) -> str:
    """Render the findings as an HTML document (see `html.page`)."""
    colours = dict(enumerate(content.palette))
    return render_template(
        Path(__file__).parent,
        "page.html.j2",
        sections=_SECTIONS,
        content=content,
        found=content.found,
        legend=list(zip(content.names, content.palette, strict=True)),
        pictures=[(example, _pictures(example, colours)) for example in content.examples],
        suggestion=suggestion_yaml(content.found),
        value_text=value_text,
    )


def draw_stored(stored: NDArray[Any]) -> NDArray[np.uint8]:
    """Return a mask as stored as an ``(H, W, 3)`` picture: colours as they are, each id in a colour of its own."""
    if stored.ndim == 3:
        return stored
    colours = np.array(generate_palette(256), np.uint8)
    return np.asarray(colours[stored % 256])


def _pictures(example: Example, palette: dict[int, Colour]) -> tuple[str, str, str | None]:
    labels = None if example.class_ids is None else mask_uri(shrink_mask(example.class_ids), palette)
    stored = drawing_uri(draw_stored(shrink_mask(example.stored)))
    return photo_uri(shrink_image(example.image)), stored, labels
