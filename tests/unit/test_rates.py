from itertools import pairwise

import numpy as np
import pytest
import torch

from unet_ray.config_training import OptimSection, ScheduleName
from unet_ray.train.rates import learning_rate

SCHEDULES: list[ScheduleName] = ["cosine", "poly", "step", "one_cycle", "constant"]


def rates(schedule: ScheduleName = "cosine", total: int = 100, warmup: float = 0.1, final: float = 0.25) -> list[float]:
    optim = OptimSection(lr=0.8, schedule=schedule, warmup_fraction=warmup, final_lr_fraction=final)
    return [learning_rate(step, total, optim) for step in range(total)]


def in_torch(make: type[torch.optim.lr_scheduler.LRScheduler], total: int = 100, **options: object) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.8)
    scheduler, found = make(optimizer, **options), []
    for _ in range(total):
        found.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return found


def test_the_default_rises_evenly_and_falls_by_half_a_cosine() -> None:
    found = rates()
    np.testing.assert_allclose(np.diff(found[:11]), 0.8 / 11)
    assert found[0] == pytest.approx(0.8 / 11)
    assert found[10] == 0.8
    assert all(before > after for before, after in pairwise(found[10:]))
    assert found[55] == pytest.approx(0.8 * (0.25 + 1) / 2)
    assert learning_rate(100, 100, OptimSection(lr=0.8, final_lr_fraction=0.25)) == pytest.approx(0.8 * 0.25)


@pytest.mark.parametrize("schedule", ["cosine", "poly", "step", "constant"])
def test_all_but_one_cycle_share_the_warm_up(schedule: ScheduleName) -> None:
    assert rates(schedule)[:11] == rates("constant")[:11]
    assert rates(schedule, warmup=0.0)[0] == 0.8


def test_cosine_is_that_of_torch() -> None:
    expected = in_torch(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=100, eta_min=0.2)
    np.testing.assert_allclose(rates("cosine", warmup=0.0), expected, rtol=1e-9)


def test_poly_is_that_of_torch() -> None:
    expected = in_torch(torch.optim.lr_scheduler.PolynomialLR, total_iters=100, power=0.9)
    np.testing.assert_allclose(rates("poly", warmup=0.0, final=0.0), expected, rtol=1e-9)


def test_step_is_that_of_torch() -> None:
    expected = in_torch(torch.optim.lr_scheduler.MultiStepLR, milestones=[60, 85], gamma=0.1)
    np.testing.assert_allclose(rates("step", warmup=0.0), expected, rtol=1e-9)
    assert rates("step")[59:61] == pytest.approx([0.8, 0.08])


@pytest.mark.parametrize("rise", [0.05, 0.3])
def test_one_cycle_is_that_of_torch(rise: float) -> None:
    expected = in_torch(
        torch.optim.lr_scheduler.OneCycleLR,
        max_lr=0.8,
        total_steps=101,
        pct_start=rise,
        cycle_momentum=False,
        final_div_factor=1 / 25 / 0.25,
    )
    np.testing.assert_allclose(rates("one_cycle", total=101, warmup=rise)[:100], expected, rtol=1e-9)


def test_constant_stays() -> None:
    assert set(rates("constant")[10:]) == {0.8}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("warmup", [0.0, 0.3, 0.99])
@pytest.mark.parametrize("total", [1, 2, 4])
def test_the_shortest_runs_have_rates(schedule: ScheduleName, warmup: float, total: int) -> None:
    assert all(0 < rate <= 0.8 for rate in rates(schedule, total, warmup))


def test_a_run_of_nothing_but_warm_up_stays_below_the_full_rate() -> None:
    np.testing.assert_allclose(rates(total=4, warmup=0.99), [0.16, 0.32, 0.48, 0.64])
