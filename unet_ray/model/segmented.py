"""What a network makes of a frame: planes of bytes. Importable without torch."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Segmented:
    """What a network makes of one frame.

    All ``(H, W)`` uint8: ``mask`` and ``second`` the ids of the most probable class and of the next, ``confidence`` the
    probability of the former in 1/255, ``entropy`` that of all probabilities in 1/255 of the largest there is,
    ``log(K)``. None where they were not asked for.
    """

    mask: Plane
    confidence: Plane | None = None
    second: Plane | None = None
    entropy: Plane | None = None

    def change(self, change_plane: Callable[[Plane], Plane]) -> "Segmented":
        """Return the same with each plane changed in one way."""
        planes = {field.name: getattr(self, field.name) for field in fields(self)}
        return Segmented(**{name: change_plane(plane) for name, plane in planes.items() if plane is not None})
