"""The class map of a dataset: names, colours, and how the pixels of a mask file become class ids."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unet_ray.config_input import Colour
from unet_ray.labels.recovery import Recovery


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassMap:
    """Class names and colours by class_id, the background's id if there is one, and how masks are read."""

    classes: tuple[str, ...]
    palette: tuple[Colour, ...]
    background: int | None
    recovery: Recovery

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @staticmethod
    def from_facts(facts: Mapping[str, Any]) -> "ClassMap":
        """Return the class map that ``dataclasses.asdict`` and JSON made a document of, whatever else is in it."""
        return ClassMap(
            classes=tuple(facts["classes"]),
            palette=tuple((r, g, b) for r, g, b in facts["palette"]),
            background=facts["background"],
            recovery=Recovery.from_facts(facts["recovery"]),
        )
