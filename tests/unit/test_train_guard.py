import copy
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.unit.tiny_training import CARD
from unet_ray.config_training import OptimizerName, OptimSection
from unet_ray.train.guard import Guard
from unet_ray.train.optimizers import make_optimizer
from unet_ray.train.scaler import LossScale

pytestmark = pytest.mark.usefixtures("one_thread")


class Run:
    """A network in training under a guard."""

    def __init__(
        self, clip_norm: float | None = 5.0, kind: OptimizerName = "adamw", loss_scale: LossScale | None = None
    ) -> None:
        torch.manual_seed(0)
        self.model = CARD.build().to(memory_format=torch.channels_last)
        self.optimizer = make_optimizer(self.model, OptimSection(kind=kind, lr=0.01, weight_decay=0.1))
        self.guard = Guard(self.model, self.optimizer, clip_norm, loss_scale)

    def step(self, *images_BCHW: Tensor) -> bool:
        """Take a step over one batch or more."""
        self.guard.begin()
        for image_BCHW in images_BCHW:
            self.guard.backward(self.loss(image_BCHW), 1 / len(images_BCHW))
        self.guard.step()
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
@pytest.mark.parametrize("before", [0, 1, 3])
@pytest.mark.parametrize("kind", ["adamw", "adam", "sgd", "rmsprop"])
def test_a_step_without_a_finite_gradient_leaves_no_trace(
    bad: float, clip_norm: float | None, before: int, kind: OptimizerName
) -> None:
    disturbed, calm = Run(clip_norm, kind), Run(clip_norm, kind)
    stream = images()
    for _ in range(before):
        image = next(stream)
        assert disturbed.step(image)
        assert calm.step(image)
    spoilt = next(stream)
    spoilt[0, 0, 0, 0] = bad
    assert not disturbed.step(spoilt)
    if before:  # some optimizers make their moments in the first step, taken or not
        assert differences(disturbed, calm) == []
    image = next(stream)
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
    run.guard.backward(loss)
    run.guard.step()
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


def test_one_bad_batch_of_several_skips_the_step_and_puts_back_the_statistics_from_before_all_of_them() -> None:
    disturbed, calm = Run(), Run()
    stream = images()
    first, *batch = (next(stream) for _ in range(4))
    for run in (disturbed, calm):
        run.step(first)
    spoilt = batch[1].clone()
    spoilt[0, 0, 0, 0] = math.nan
    assert not disturbed.step(batch[0], spoilt, batch[2])
    assert differences(disturbed, calm) == []
    for run in (disturbed, calm):
        assert run.step(*batch)
    assert differences(disturbed, calm) == []


def test_the_gradient_of_two_batches_is_that_of_one_of_both_where_no_batch_norm_mixes_them() -> None:
    one, two = Run(clip_norm=None), Run(clip_norm=None)
    image_BCHW = torch.cat([batch for _, batch in zip(range(4), images(), strict=False)])
    for run in (one, two):
        for module in run.model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.forward = lambda x: x  # type: ignore[method-assign]
    one.step(image_BCHW)
    two.step(image_BCHW[:4], image_BCHW[4:])
    found = [(a.grad, b.grad) for a, b in zip(one.model.parameters(), two.model.parameters(), strict=True)]
    assert sum(a is not None and bool(a.any()) for a, _ in found) > 5
    for wanted, gradient in found:
        torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-6)


def test_a_scale_of_the_loss_changes_no_step() -> None:
    scaled, plain = Run(1e-3, loss_scale=LossScale(torch.device("cpu"))), Run(1e-3)
    for _, image in zip(range(3), images(), strict=False):
        assert scaled.step(image)
        assert plain.step(image)
        assert differences(scaled, plain) == []  # it is a power of two


def test_an_overflow_skips_the_step_and_halves_the_scale() -> None:
    scale = LossScale(torch.device("cpu"))
    run = Run(loss_scale=scale)
    image = next(images())
    scale.restore(2.0**127, 0)
    assert not run.step(image * 1e3)
    assert float(scale.scale) == 2.0**126
    before = copy.deepcopy(run.state())
    scale.restore(2.0**10, 0)
    assert run.step(image)
    assert scale.state() == {"scale": 1024.0, "calm_steps": 1}
    assert [name for name, tensor in run.state().items() if torch.equal(tensor, before[name])] == []
