import threading
from collections.abc import Iterator

import pytest

from unet_ray.train.ahead import in_parts, started


def squares(items: list[int]) -> Iterator[int]:
    return (item * item for item in items)


@pytest.mark.parametrize("lead", [1, 3, 4, 9])
@pytest.mark.parametrize("number", [0, 1, 3, 4, 5, 8, 11])
def test_parts_give_every_item_once_in_order(number: int, lead: int) -> None:
    assert list(in_parts(iter(range(number)), 4, lead, squares)) == [(item, item * item) for item in range(number)]


def test_no_more_is_taken_than_the_next_part_and_not_before_its_time() -> None:
    items, parts = iter(range(1_000_000)), []

    def run(part: list[int]) -> Iterator[int]:
        parts.append(part)
        return squares(part)

    results = in_parts(items, 4, 2, run)
    seen = []
    for _ in range(7):
        seen.append((next(results)[0], len(parts)))
    assert seen == [(0, 1), (1, 1), (2, 2), (3, 2), (4, 2), (5, 2), (6, 3)]
    assert next(items) == 12


def test_a_part_starts_while_the_one_before_goes_on() -> None:
    begun = threading.Event()

    def run(part: list[int]) -> Iterator[int]:
        if part[0] == 4:
            begun.set()
        yield from squares(part)

    results = in_parts(iter(range(8)), 4, 2, run)
    assert [next(results)[0] for _ in range(3)] == [0, 1, 2]
    assert begun.wait(60)


def test_an_error_comes_where_its_item_would() -> None:
    def run(part: list[int]) -> Iterator[int]:
        for item in part:
            if item == 4:
                raise ValueError("four")
            yield item

    results = in_parts(iter(range(8)), 4, 4, run)
    assert [next(results)[0] for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="four"):
        next(results)


def test_a_part_without_all_its_results_is_an_error() -> None:
    with pytest.raises(ValueError, match="shorter"):
        list(in_parts(iter(range(3)), 4, 1, lambda part: iter(part[:2])))


def test_the_first_item_is_asked_for_at_once_and_nothing_is_lost() -> None:
    asked = threading.Event()

    def items() -> Iterator[int]:
        asked.set()
        yield from range(3)

    with started(items()) as ready:
        assert asked.wait(60)
        assert list(ready) == [0, 1, 2]
    with started(iter(())) as ready:
        assert list(ready) == []
