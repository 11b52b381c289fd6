"""The class map of a dataset: names, palette, which mask values are ignored."""

import colorsys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_ray.errors import ConfigError, ImageError
from unet_ray.schema import IGNORE_INDEX

Colour = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassMap:
    """Class names and colours by class_id, the mask values to ignore, and the background's id if there is one."""

    classes: tuple[str, ...]
    palette: tuple[Colour, ...]
    ignore_ids: tuple[int, ...]
    background: int | None

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @staticmethod
    def from_facts(facts: Mapping[str, Any]) -> "ClassMap":
        """Return the class map that ``dataclasses.asdict`` made a table's facts of."""
        return ClassMap(
            classes=tuple(facts["classes"]),
            palette=tuple((r, g, b) for r, g, b in facts["palette"]),
            ignore_ids=tuple(facts["ignore_ids"]),
            background=facts["background"],
        )

    def to_class_ids(self, mask: NDArray[np.uint16]) -> NDArray[np.uint8]:
        """Map the ``(H, W)`` values of a mask file to uint8 class ids, 255 where ignored.

        Raises:
            ImageError: class_id_out_of_range, with the values found and their pixels.
        """
        table = np.full(65536, IGNORE_INDEX, np.uint8)
        table[: self.num_classes] = np.arange(self.num_classes)
        table[list(self.ignore_ids)] = IGNORE_INDEX
        known = np.zeros(65536, bool)
        known[: self.num_classes] = True
        known[list(self.ignore_ids)] = True
        if not known[mask].all():
            values, pixels = np.unique(mask[~known[mask]], return_counts=True)
            found = ", ".join(f"{v} ({n} px)" for v, n in zip(values[:5].tolist(), pixels[:5].tolist(), strict=True))
            more = f" and {len(values) - 5} more" if len(values) > 5 else ""
            ignored = ", ".join(map(str, self.ignore_ids)) or "none"
            raise ImageError(
                "class_id_out_of_range",
                f"values {found}{more}; known are 0..{self.num_classes - 1}, ignored {ignored} (labels.ignore_ids)",
            )
        return np.asarray(table[mask])


def make_class_map(
    classes: tuple[str, ...],
    palette: tuple[Colour, ...],
    ignore_ids: tuple[int, ...],
    background: str | None,
) -> ClassMap:
    """Return a checked class map; a missing palette is generated.

    Raises:
        ConfigError: No classes, a palette of another length, or a background that is not a class.
    """
    if not classes:
        raise ConfigError("labels.classes: must name the classes, position = class_id; this layout has none of its own")
    if palette and len(palette) != len(classes):
        raise ConfigError(
            f"labels.palette: must hold a colour per class, got {len(palette)} for {len(classes)} classes"
        )
    if background is not None and background not in classes:
        raise ConfigError(f"labels.background: must be one of the classes ({', '.join(classes)}), got {background!r}")
    return ClassMap(
        classes=classes,
        palette=palette or generate_palette(len(classes)),
        ignore_ids=ignore_ids,
        background=None if background is None else classes.index(background),
    )


def generate_palette(num_classes: int) -> tuple[Colour, ...]:
    """Return distinguishable colours: hues a golden angle apart, two levels of lightness."""
    colours = []
    for class_id in range(num_classes):
        rgb = colorsys.hls_to_rgb(class_id * 0.618034 % 1, 0.42 + 0.2 * (class_id % 2), 0.62)
        colours.append((round(255 * rgb[0]), round(255 * rgb[1]), round(255 * rgb[2])))
    return tuple(colours)
