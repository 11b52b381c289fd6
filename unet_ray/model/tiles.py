"""Cutting what is too large for one forward pass into tiles that give the same logits. Plain integers.

A logit depends on a bounded part of the image. A tile that has all of it around its core, or ends where the image ends,
gives the core what the whole image would, so cores are put side by side and nothing is blended.
"""

from dataclasses import dataclass
from functools import lru_cache

from unet_ray.sizes import Sizes


@dataclass(frozen=True, slots=True)
class Span:
    """A tile along one axis, in output pixels: it puts out ``first`` to ``end``, of which its core is kept."""

    first: int
    end: int
    core_first: int
    core_end: int

    @property
    def core(self) -> slice:
        """Where the core lies in the whole output."""
        return slice(self.core_first, self.core_end)

    @property
    def kept(self) -> slice:
        """Where the core lies in the tile's output."""
        return slice(self.core_first - self.first, self.core_end - self.first)


@dataclass(frozen=True, slots=True)
class Tile:
    """A tile: its rows and its columns."""

    rows: Span
    columns: Span

    def area(self, margin: int) -> int:
        """Return how many pixels of an image with this margin it takes."""
        height, width = (span.end - span.first + 2 * margin for span in (self.rows, self.columns))
        return height * width


@lru_cache(maxsize=64)
def cut_tiles(
    height: int, width: int, sizes: Sizes, reach: int | None, step: int, most_pixels: int
) -> tuple[Tile, ...]:
    """Return tiles whose cores cover an output, with as few pixels in all as may be.

    Args:
        height: Rows of the output, an output size (`Sizes`).
        width: Columns of the output.
        sizes: Sizes of the network.
        reach: Pixels around an output pixel, beside the margin, that its logits depend on; None for all.
        step: Cores begin at multiples of this, a multiple of the network's stride.
        most_pixels: Most image pixels of a tile; exceeded where the smallest tile has more, or ``reach`` is None.
    """
    if reach is None:
        return (Tile(*(Span(0, length, 0, length) for length in (height, width))),)
    cuts = [_cuts(length, sizes, reach, step) for length in (height, width)]
    margin = 2 * sizes.margin
    best: tuple[int, list[Span], list[Span]] | None = None
    for rows in cuts[0]:
        tallest = max(span.end - span.first for span in rows) + margin
        for columns in cuts[1]:
            widest = max(span.end - span.first for span in columns) + margin
            if tallest * widest <= most_pixels:
                pixels = _sum(rows, margin) * _sum(columns, margin)
                if best is None or pixels < best[0]:
                    best = (pixels, rows, columns)
                break  # more columns are more pixels
    _, rows, columns = best or (0, cuts[0][-1], cuts[1][-1])
    return tuple(Tile(row, column) for row in rows for column in columns)


def _cuts(length: int, sizes: Sizes, reach: int, step: int) -> list[list[Span]]:
    """Return every way to cut an axis into cores of one size, the fewest first."""
    ways: list[list[Span]] = []
    halo = -(-reach // step) * step
    least = -(-max(step, (halo + sizes.margin) // 2) // step) * step  # smaller cores would save little
    for parts in range(1, -(-length // least) + 1):
        core = max(least, -(-length // (parts * step)) * step)
        spans: list[Span] = []
        while not spans or spans[-1].core_end < length:
            begin = len(spans) * core
            end = min(begin + sizes.at_least(core), length)
            spans.append(Span(max(0, begin - halo), min(length, end + halo), begin, end))
        if not ways or len(spans) > len(ways[-1]):
            ways.append(spans)
    return ways


def _sum(spans: list[Span], margin: int) -> int:
    return sum(span.end - span.first + margin for span in spans)
