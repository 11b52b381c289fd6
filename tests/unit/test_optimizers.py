from typing import Any

import pytest
import torch
from torch import nn

from tests.unit.tiny_training import CARD
from unet_ray.config_training import OptimizerName, OptimSection
from unet_ray.train.optimizers import make_optimizer, set_rate

pytestmark = pytest.mark.usefixtures("one_thread")

KINDS: list[OptimizerName] = ["adamw", "adam", "sgd", "rmsprop"]


class Encoded(nn.Module):
    """A network with a part called encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2))
        self.head = nn.Conv2d(2, 2, 1)


def settings(model: nn.Module, optimizer: torch.optim.Optimizer, key: str) -> dict[str, Any]:
    found = {id(p): group[key] for group in optimizer.param_groups for p in group["params"]}
    assert len(found) == len(list(model.parameters()))
    return {name: found[id(parameter)] for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("kind", KINDS)
def test_only_convolution_weights_decay(kind: OptimizerName) -> None:
    model = CARD.build()
    optimizer = make_optimizer(model, OptimSection(kind=kind, weight_decay=0.25, lr=0.5))
    decays = settings(model, optimizer, "weight_decay")
    for name, parameter in model.named_parameters():
        assert decays[name] == (0.25 if parameter.ndim == 4 else 0), name
    assert set(settings(model, optimizer, "lr").values()) == {0.5}


def test_an_encoder_has_its_own_share_of_the_learning_rate_and_the_same_decay() -> None:
    model = Encoded()
    optimizer = make_optimizer(model, OptimSection(encoder_lr_factor=0.1, weight_decay=0.25))
    set_rate(optimizer, 0.5)
    assert settings(model, optimizer, "lr") == {
        "encoder.0.weight": 0.05, "encoder.0.bias": 0.05, "encoder.1.weight": 0.05, "encoder.1.bias": 0.05,
        "head.weight": 0.5, "head.bias": 0.5,
    }  # fmt: skip
    decaying = {name for name, decay in settings(model, optimizer, "weight_decay").items() if decay}
    assert decaying == {"encoder.0.weight", "head.weight"}


def test_a_factor_without_an_encoder_changes_nothing() -> None:
    model = CARD.build()
    optimizer = make_optimizer(model, OptimSection(encoder_lr_factor=0.1))
    set_rate(optimizer, 0.5)
    assert len(optimizer.param_groups) == 2
    assert set(settings(model, optimizer, "lr").values()) == {0.5}


@pytest.mark.parametrize(
    ("kind", "plain"),
    [
        ("adamw", lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.0)),
        ("adam", lambda p: torch.optim.Adam(p, lr=0.01)),
        ("sgd", lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.99)),
        ("rmsprop", lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.99)),
    ],
)
def test_each_kind_takes_the_steps_of_the_plain_optimizer_of_that_name(kind: OptimizerName, plain: Any) -> None:
    torch.manual_seed(0)
    ours, theirs = nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3)
    theirs.load_state_dict(ours.state_dict())
    mine = make_optimizer(ours, OptimSection(kind=kind, lr=0.01, momentum=0.99, weight_decay=0))
    other = plain(theirs.parameters())
    for _ in range(4):
        x = torch.randn(1, 2, 5, 5)
        for model, optimizer in ((ours, mine), (theirs, other)):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
    for one, two in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, two)
