import random

import pytest
import torch

from unet_ray.train import scaler
from unet_ray.train.scaler import LossScale

CPU = torch.device("cpu")


def test_the_scale_moves_as_that_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaler, "_PATIENCE", 3)
    ours, rng = LossScale(CPU), random.Random(0)
    theirs = torch.amp.GradScaler("cpu", growth_interval=3)
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=0.0)
    seen = set()
    for _ in range(200):
        overflow = rng.random() < 0.2
        weight.grad = theirs.scale(torch.full((1,), torch.inf if overflow else 1.0))
        theirs.step(optimizer)
        theirs.update()
        ours.update(torch.tensor(overflow))
        assert float(ours.scale) == theirs.get_scale()
        seen.add(float(ours.scale))
    assert len(seen) > 5


def test_the_scale_starts_at_65536_halves_at_once_and_doubles_after_2000_calm_steps() -> None:
    scale = LossScale(CPU)
    assert scale.state() == {"scale": 65536.0, "calm_steps": 0}
    scale.update(torch.tensor(True))
    for _ in range(1999):
        scale.update(torch.tensor(False))
    assert scale.state() == {"scale": 32768.0, "calm_steps": 1999}
    scale.update(torch.tensor(False))
    assert scale.state() == {"scale": 65536.0, "calm_steps": 0}


def test_the_scale_never_becomes_infinite() -> None:
    scale = LossScale(CPU)
    scale.restore(2.0**127, 1999)
    scale.update(torch.tensor(False))
    assert float(scale.scale) == 2.0**127


def test_a_restored_scale_goes_on() -> None:
    scale, resumed = LossScale(CPU), LossScale(CPU)
    for overflow in (True, False, False):
        scale.update(torch.tensor(overflow))
    resumed.restore(**scale.state())
    assert resumed.state() == scale.state() == {"scale": 32768.0, "calm_steps": 2}
