import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_ray.model.tiles import cut_tiles
from unet_ray.sizes import Sizes, padded_sizes, unpadded_sizes

NETWORKS = [padded_sizes(2), padded_sizes(4), unpadded_sizes(2), unpadded_sizes(4)]


@given(
    sizes=st.sampled_from(NETWORKS),
    side=st.tuples(st.integers(1, 600), st.integers(1, 600)),
    reach=st.integers(0, 150),
    most_pixels=st.integers(1, 300_000),
    factor=st.sampled_from([1, 4]),
)
def test_cores_cover_the_output_and_see_as_far_as_they_must(
    sizes: Sizes, side: tuple[int, int], reach: int, most_pixels: int, factor: int
) -> None:
    if sizes.margin:
        reach, factor = 0, 1
    step = sizes.stride * factor
    height, width = (sizes.at_least(length) if factor == 1 else -(-length // step) * step for length in side)
    tiles = cut_tiles(height, width, sizes, reach, step, most_pixels)
    covered = np.zeros((height, width), np.int64)
    for tile in tiles:
        covered[tile.rows.core, tile.columns.core] += 1
        for span, length in ((tile.rows, height), (tile.columns, width)):
            assert span.first <= max(0, span.core_first - reach)
            assert span.end >= min(length, span.core_end + reach)
            assert span.first % step == 0
            assert sizes.at_least(span.end - span.first) == span.end - span.first
    assert covered.min() == 1
    if not sizes.margin:
        assert covered.max() == 1
    if max(tile.area(sizes.margin) for tile in tiles) > most_pixels:
        smallest = cut_tiles(height, width, sizes, reach, step, 1)
        assert tiles == smallest
        assert max(span.core_first for tile in smallest for span in (tile.rows, tile.columns)) % step == 0


def test_what_fits_is_not_cut() -> None:
    (tile,) = cut_tiles(368, 480, padded_sizes(4), 107, 16, 368 * 480)
    assert (tile.rows.first, tile.rows.end, tile.columns.core) == (0, 368, slice(0, 480))


def test_the_cut_with_the_fewest_pixels_is_taken() -> None:
    tiles = cut_tiles(1088, 1920, padded_sizes(4), 107, 16, 2**20)
    assert max(tile.area(0) for tile in tiles) <= 2**20
    assert len({tile.rows for tile in tiles}) == 1
    assert sum(tile.area(0) for tile in tiles) < 1.25 * 1088 * 1920


def test_where_a_logit_depends_on_everything_nothing_is_cut() -> None:
    assert len(cut_tiles(4096, 4096, padded_sizes(4), None, 16, 1)) == 1


@pytest.mark.parametrize(("length", "parts"), [(16, 1), (32, 2)])
def test_cores_are_never_smaller_than_a_step(length: int, parts: int) -> None:
    assert len(cut_tiles(length, 16, padded_sizes(4), 0, 16, 1)) == parts
