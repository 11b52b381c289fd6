"""Iterators that take seconds to start, started in a thread before they are needed. Needs no Ray."""

import contextlib
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
S = TypeVar("S")


@contextlib.contextmanager
def started(items: Iterator[T]) -> Iterator[Iterator[T]]:
    """Give the same items, the first asked for now, in a thread: data tasks take seconds to start, as networks do."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        yield _begin(items, thread)


def in_parts(
    items: Iterator[T], part: int, lead: int, run: Callable[[list[T]], Iterator[S]]
) -> Generator[tuple[T, S], None, None]:
    """Yield every item with its result, computed part by part without a pause between two parts.

    Args:
        items: What to compute, taken a part at a time.
        part: Items of a part.
        lead: The next part is started when this many items of one are left.
        run: Yields the results of the items of a part, in order.
    """
    with ThreadPoolExecutor(max_workers=1) as thread:

        def begin() -> tuple[list[T], Iterator[S]]:
            chosen = list(islice(items, part))
            return chosen, _begin(run(chosen), thread) if chosen else iter(())

        chosen, results = begin()
        while chosen:
            coming: tuple[list[T], Iterator[S]] = [], iter(())
            for number, (item, result) in enumerate(zip(chosen, results, strict=True)):
                if number == max(0, len(chosen) - lead):
                    coming = begin()
                yield item, result
            chosen, results = coming


def _begin(items: Iterator[T], thread: ThreadPoolExecutor) -> Iterator[T]:
    first: Future[list[T]] = thread.submit(list, islice(items, 1))

    def all_items() -> Iterator[T]:
        yield from first.result()
        yield from items

    return all_items()
