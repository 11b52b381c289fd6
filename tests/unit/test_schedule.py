from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from unet_ray.train.schedule import WINDOW_ROWS, Item, Schedule, epoch_order

BASE = Schedule(
    num_train=50,
    num_eval=23,
    batch_size=4,
    batches_per_step=1,
    eval_batch_size=5,
    epochs=5,
    eval_every=2,
    rank=0,
    world_size=1,
)


def ranks(schedule: Schedule, world_size: int) -> list[Schedule]:
    return [replace(schedule, rank=rank, world_size=world_size) for rank in range(world_size)]


def trained_rows(schedule: Schedule, epoch: int, seed: int = 0) -> list[int]:
    order = epoch_order(np.arange(schedule.num_train) // 8, seed, epoch)
    batches = [item.number for item in schedule.items(epoch) if item.kind == "train"]
    return [row for batch in batches for row in schedule.train_positions(order, batch).tolist()]


def rows_of_steps(order: NDArray[np.int64], workers: list[Schedule]) -> list[list[int]]:
    """Return the rows of each step of an epoch, in the order of its batches."""
    return [
        [
            row
            for batch in sorted(batch for worker in workers for batch in worker.batches(step))
            for row in workers[0].train_positions(order, batch).tolist()
        ]
        for step in range(workers[0].steps_per_epoch)
    ]


@settings(max_examples=60)
@given(st.integers(1, 200), st.integers(1, 9), st.integers(1, 5))
def test_every_training_row_is_seen_in_every_epoch(num_train: int, batch_size: int, world_size: int) -> None:
    base = replace(BASE, num_train=num_train, batch_size=batch_size, batches_per_step=world_size)
    workers = ranks(base, world_size)
    seen = Counter(row for worker in workers for row in trained_rows(worker, 1))
    global_batch = batch_size * world_size
    assert set(seen) == set(range(num_train))
    assert seen.total() == -(-num_train // global_batch) * global_batch
    assert seen.total() - num_train < global_batch  # what fills up the last step
    assert max(seen.values()) - min(seen.values()) <= 1


def test_the_steps_of_the_workers_together_walk_through_the_order() -> None:
    order = epoch_order(np.arange(50) // 8, 0, 1)
    workers = ranks(replace(BASE, batches_per_step=3), 3)
    walked = np.concatenate(rows_of_steps(order, workers))
    np.testing.assert_array_equal(walked[:50], order)
    np.testing.assert_array_equal(walked[50:], order[:10])


@settings(max_examples=60)
@given(st.integers(1, 200), st.integers(1, 5), st.integers(0, 2**32), st.integers(1, 9))
def test_the_order_of_samples_is_the_same_for_one_two_and_four_workers(
    num_train: int, quarter: int, seed: int, epoch: int
) -> None:
    order = epoch_order(np.arange(num_train) // 8, seed, epoch)

    def steps(world_size: int) -> list[list[int]]:
        batch_size = 4 * quarter // world_size
        base = replace(BASE, num_train=num_train, batch_size=batch_size, batches_per_step=world_size)
        return rows_of_steps(order, ranks(base, world_size))

    assert steps(1) == steps(2) == steps(4)


@settings(max_examples=60)
@given(st.integers(1, 200), st.integers(0, 2**32), st.integers(1, 9))
def test_a_step_has_the_same_rows_whether_batches_are_accumulated_or_dealt_to_workers(
    num_train: int, seed: int, epoch: int
) -> None:
    order = epoch_order(np.arange(num_train) // 8, seed, epoch)

    def steps(batch_size: int, world_size: int) -> list[list[int]]:
        base = replace(BASE, num_train=num_train, batch_size=batch_size, batches_per_step=8 // batch_size)
        return rows_of_steps(order, ranks(base, world_size))

    assert steps(8, 1) == steps(4, 1) == steps(4, 2) == steps(2, 2) == steps(2, 3) == steps(1, 5)


def test_an_elastic_step_gives_every_worker_a_batch_and_deals_the_rest_evenly() -> None:
    base = replace(BASE, batches_per_step=7)
    for world_size in range(1, 8):
        dealt = [worker.batches(3) for worker in ranks(base, world_size)]
        assert sorted(batch for batches in dealt for batch in batches) == list(range(21, 28))
        sizes = {len(batches) for batches in dealt}
        assert min(sizes) >= 1
        assert max(sizes) - min(sizes) <= 1


def test_the_work_can_start_in_the_middle_of_an_epoch() -> None:
    schedule = replace(BASE, batches_per_step=3, batch_size=2)
    for epoch, step in ((1, 0), (2, 4), (4, schedule.steps_per_epoch)):
        passed_by = sum(len(schedule.items(number)) for number in range(epoch)) + 3 * step
        assert list(schedule.all_items(epoch, step)) == list(schedule.all_items(0))[passed_by:]


def test_all_workers_take_the_same_number_of_steps() -> None:
    for world_size in (1, 2, 3, 7):
        workers = ranks(replace(BASE, batches_per_step=world_size), world_size)
        counts = {sum(item.kind == "train" for item in worker.items(3)) for worker in workers}
        assert counts == {-(-50 // (4 * world_size))}


def test_order_is_a_pure_permutation_of_seed_and_epoch() -> None:
    groups = np.arange(1000) // 8
    order = epoch_order(groups, 3, 1)
    np.testing.assert_array_equal(order, epoch_order(groups.copy(), 3, 1))
    np.testing.assert_array_equal(np.sort(order), np.arange(1000))
    for other in (epoch_order(groups, 3, 2), epoch_order(groups, 4, 1)):
        assert (other == order).mean() < 0.02
        np.testing.assert_array_equal(np.sort(other), np.arange(1000))


def test_order_never_changes() -> None:
    assert epoch_order(np.arange(10) // 4, 0, 1).tolist() == [8, 5, 9, 3, 1, 0, 2, 4, 7, 6]


def test_a_dataset_of_one_window_is_shuffled_row_by_row() -> None:
    order = epoch_order(np.arange(4000) // 8, 0, 1)
    neighbours = np.abs(np.diff(order)) == 1
    assert neighbours.mean() < 0.01
    assert abs(np.corrcoef(order, np.arange(4000))[0, 1]) < 0.1


def test_a_larger_dataset_is_read_in_windows_of_whole_row_groups() -> None:
    num_rows = 3 * WINDOW_ROWS + 100
    groups = np.repeat(np.arange(num_rows // 8 + 1), 8)[:num_rows] * 3 + 2**33  # as part and row group are packed
    order = epoch_order(groups, 0, 1)
    np.testing.assert_array_equal(np.sort(order), np.arange(num_rows))
    split = 0
    for start in range(0, num_rows, WINDOW_ROWS):
        window = groups[order[start : start + WINDOW_ROWS]]
        sizes = np.unique(window, return_counts=True)[1]
        split += int((sizes < 8).sum())
        assert np.ptp(order[start : start + WINDOW_ROWS]) > num_rows / 2  # from all over the dataset
    assert split <= 2 * 3 + 1  # a group may be cut only where two windows meet, or at the end


def test_groups_of_unequal_sizes_stay_together_before_the_window_is_shuffled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unet_ray.train.schedule.WINDOW_ROWS", 1)
    groups = np.array([7, 7, 7, 2, 9, 9, 2, 2])  # the second run of 2 is a group of its own
    order = epoch_order(groups, 0, 1).tolist()
    runs = [(0, 1, 2), (3,), (4, 5), (6, 7)]
    assert order == [row for run in sorted(runs, key=lambda run: order.index(run[0])) for row in run]


@settings(max_examples=60)
@given(st.integers(0, 100), st.integers(1, 9), st.integers(1, 12))
def test_validation_batches_are_dealt_out_without_rest_or_overlap(
    num_eval: int, eval_batch_size: int, world_size: int
) -> None:
    schedule = replace(BASE, num_eval=num_eval, eval_batch_size=eval_batch_size)
    rows = [
        row
        for worker in ranks(schedule, world_size)
        for item in worker.items(2)
        if item.kind == "eval"
        for row in worker.eval_positions(item.number)
    ]
    assert sorted(rows) == list(range(num_eval))


def test_validation_batches_are_the_same_for_any_number_of_workers() -> None:
    def batches(world_size: int) -> set[range]:
        return {
            worker.eval_positions(item.number)
            for worker in ranks(BASE, world_size)
            for item in worker.items(2)
            if item.kind == "eval"
        }

    assert batches(1) == batches(2) == batches(5)


def test_an_epoch_trains_and_then_validates_when_it_is_due() -> None:
    kinds = {epoch: [item.kind for item in BASE.items(epoch)] for epoch in range(BASE.epochs + 1)}
    train, val = ["train"] * 13, ["eval"] * 5
    assert kinds == {0: val, 1: train, 2: train + val, 3: train, 4: train + val, 5: train + val}


def test_without_validation_rows_nothing_validates() -> None:
    blind = replace(BASE, num_eval=0)
    assert not any(blind.validates(epoch) for epoch in range(6))
    assert blind.items(0) == []


def test_a_resumed_worker_goes_on_with_the_items_of_the_next_epoch() -> None:
    everything = list(BASE.all_items(0))
    assert list(BASE.all_items(3)) == [item for item in everything if item.epoch >= 3]
    assert everything[0] == Item("eval", 0, 0)
    assert list(BASE.all_items(6)) == []
