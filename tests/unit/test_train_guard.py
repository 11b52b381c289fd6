import copy
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.unit.tiny_training import CARD, make_optimizer
from unet_ray.train.guard import Guard

pytestmark = pytest.mark.usefixtures("one_thread")


class Run:
    """A network in training under a guard."""

    def __init__(self, clip_norm: float | None = 5.0) -> None:
        torch.manual_seed(0)
        self.model = CARD.build().to(memory_format=torch.channels_last)
        self.optimizer = make_optimizer(self.model)
        self.guard = Guard(self.model, self.optimizer, clip_norm)

    def step(self, image_BCHW: Tensor) -> bool:
        self.guard.begin()
        self.guard.step(self.loss(image_BCHW))
        return self.guard.settle()

    def loss(self, image_BCHW: Tensor) -> Tensor:
        loss: Tensor = self.model.train()(image_BCHW).square().mean()
        return loss

    def state(self) -> dict[str, Tensor]:
        moments = self.optimizer.state_dict()["state"]
        return self.model.state_dict() | {f"{i}.{k}": v for i, slots in moments.items() for k, v in slots.items()}


def images() -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(1)
    while True:
        yield torch.randn((2, 3, 8, 8), generator=generator)


def differences(one: Run, two: Run) -> list[str]:
    found, wanted = one.state(), two.state()
    assert found.keys() == wanted.keys()
    return [name for name in found if not torch.equal(found[name], wanted[name])]


@pytest.mark.parametrize("clip_norm", [None, 1e-3])
def test_a_guarded_step_is_a_plain_step_to_the_bit(clip_norm: float | None) -> None:
    guarded, plain = Run(clip_norm), Run()
    for _, image in zip(range(3), images(), strict=False):
        assert guarded.step(image)
        plain.optimizer.zero_grad(set_to_none=True)
        plain.loss(image).backward()
        if clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(plain.model.parameters(), clip_norm)
        plain.optimizer.step()
        assert differences(guarded, plain) == []


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("clip_norm", [None, 5.0])
@pytest.mark.parametrize("before", [1, 3])
def test_a_step_without_a_finite_gradient_leaves_no_trace(bad: float, clip_norm: float | None, before: int) -> None:
    disturbed, calm = Run(clip_norm), Run(clip_norm)
    stream = images()
    for _ in range(before):
        image = next(stream)
        assert disturbed.step(image)
        assert calm.step(image)
    spoilt = next(stream)
    spoilt[0, 0, 0, 0] = bad
    assert not disturbed.step(spoilt)
    assert differences(disturbed, calm) == []
    image = next(stream)
    assert disturbed.step(image)
    assert calm.step(image)
    assert differences(disturbed, calm) == []


def test_the_very_first_step_may_be_a_bad_one() -> None:
    disturbed, calm = Run(), Run()
    assert not disturbed.step(torch.full((2, 3, 8, 8), math.nan))
    image = next(images())
    assert disturbed.step(image)
    assert calm.step(image)
    assert differences(disturbed, calm) == []


class BadGradient(torch.autograd.Function):
    """The identity, whose gradient has one element that is infinite."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        bad = gradients[0].clone()
        bad[0, 0, 0, 0] = math.inf
        return bad


def assert_skipped(run: Run, loss: Tensor, before: dict[str, Tensor]) -> None:
    run.guard.step(loss)
    assert not run.guard.settle()
    assert [name for name, tensor in run.state().items() if not torch.equal(tensor, before[name])] == []


def test_a_finite_loss_with_one_bad_element_in_its_gradient_is_skipped() -> None:
    run = Run()
    run.step(next(images()))
    before = copy.deepcopy(run.state())
    run.guard.begin()
    loss = BadGradient.apply(run.model.train()(next(images()))).square().mean()
    assert loss.isfinite()
    assert_skipped(run, loss, before)


def test_a_bad_loss_with_a_finite_gradient_is_skipped() -> None:
    run = Run()
    run.step(next(images()))
    before = copy.deepcopy(run.state())
    run.guard.begin()
    assert_skipped(run, run.loss(next(images())) + math.inf, before)
