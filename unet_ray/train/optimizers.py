"""The optimizer of a run, made of its parameters by what they are: decaying or not, of a pretrained encoder or not."""

from collections.abc import Iterable

import torch
from torch import nn

from unet_ray.config_training import OptimSection

_ENCODER = "encoder."


def make_optimizer(model: nn.Module, optim: OptimSection) -> torch.optim.Optimizer:
    """Return the optimizer of ``optim.kind`` over all parameters, fused where torch has a fused kernel.

    Only weights of convolutions decay, not norms and biases. Parameters whose names start with ``encoder.`` are groups
    of their own; `set_rate` gives them their share of the learning rate.
    """
    groups = [
        {
            "params": [p for name, p in model.named_parameters() if (p.ndim > 1, name.startswith(_ENCODER)) == which],
            "weight_decay": optim.weight_decay if which[0] else 0.0,
            "lr_factor": optim.encoder_lr_factor if which[1] else 1.0,
        }
        for which in ((True, False), (False, False), (True, True), (False, True))
    ]
    groups = [group for group in groups if group["params"]]
    match optim.kind:
        case "adamw":
            return torch.optim.AdamW(groups, lr=optim.lr, fused=True)
        case "adam":
            return torch.optim.Adam(groups, lr=optim.lr, fused=True)
        case "sgd":
            optimizer = torch.optim.SGD(groups, lr=optim.lr, momentum=optim.momentum, fused=True)
            _start_momentum(optimizer, model.parameters())
            return optimizer
        case "rmsprop":
            return torch.optim.RMSprop(groups, lr=optim.lr, momentum=optim.momentum)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of a step; each group takes its share of it."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_factor"]


def _start_momentum(optimizer: torch.optim.SGD, parameters: Iterable[nn.Parameter]) -> None:
    """Start momentum at zero, which changes nothing, as torch 2.15 leaves it unset when the first step is skipped."""
    if optimizer.defaults["momentum"]:
        for parameter in parameters:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
