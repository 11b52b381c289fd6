import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from unet_ray.survey import tally
from unet_ray.survey.tally import MOST_VALUES, add_up, cells_of, tally_image


@given(st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=30), min_size=1, max_size=4))
def test_values_are_counted_by_pixel_and_by_image(masks: list[list[int]]) -> None:
    total = add_up([tally_image(np.array(mask, np.uint16)) for mask in masks])
    assert total.dropped == 0
    assert total.rows.tolist() == [
        [value, sum(mask.count(value) for mask in masks), sum(value in mask for mask in masks)]
        for value in sorted({value for mask in masks for value in mask})
    ]


def test_cells_join_colours_of_an_image_by_their_upper_bits() -> None:
    image = tally_image(np.array([[0x000001, 0x00000F], [0x000010, 0x100000]], np.uint32))
    assert cells_of(image).rows.tolist() == [[0, 2, 1], [0x10, 1, 1], [0x100000, 1, 1]]


def test_rare_values_are_let_go_beyond_the_bound_but_no_pixel_is_lost_and_known_values_stay() -> None:
    many = np.arange(MOST_VALUES + 10)
    pixels = np.repeat(many, np.where(many < 12, 1, 2))
    total = add_up([tally_image(pixels)], keep=[0, 1])
    assert len(total.rows) == MOST_VALUES
    assert total.dropped == 10
    assert total.pixels == len(pixels)
    assert total.rows[:2].tolist() == [[0, 1, 1], [1, 1, 1]]
    assert total.rows[2, 0] == 12


def test_nothing_adds_up_to_nothing() -> None:
    assert add_up([]).pixels == tally.EMPTY.pixels == 0
