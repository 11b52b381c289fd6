"""What the benchmarks measure with: the times of a job's progress, and the rows they return and print."""

import sys
import time
from collections.abc import Iterable
from typing import Any

from unet_ray.table.commit import Progress


class Clock:
    """Remembers when which number of rows was done."""

    def __init__(self) -> None:
        self.times: list[tuple[float, int]] = []

    def __call__(self, now: Progress) -> None:
        self.times.append((time.perf_counter(), now.done))

    def rate(self) -> float:
        """Return rows per second between the first part and the last."""
        (first, some), (last, every) = self.times[1], self.times[-1]
        return (every - some) / (last - first)


def row(name: str, value: float, unit: str, against: str, reference: float) -> dict[str, Any]:
    """Return one row of the result."""
    return {"name": name, "value": value, "unit": unit, "against": against, "ratio": value / reference}


def print_rows(rows: Iterable[dict[str, Any]]) -> None:
    """Print rows as they come."""
    for one in rows:
        sys.stdout.write(f"{one['name']:<36}{one['value']:9.2f} {one['unit']} {one['ratio']:6.2f} x {one['against']}\n")
        sys.stdout.flush()
