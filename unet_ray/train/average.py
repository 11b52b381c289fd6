"""The exponential moving average of the weights, which is what a run validates and predicts with when it keeps one."""

import copy
from collections.abc import Mapping
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


class Average(Generic[Network]):
    """A network whose weights are the mean of those after every step taken, each weighing ``decay`` times the next.

    After Polyak and Juditsky (1992), with the correction for the start of Kingma and Ba, "Adam" (ICLR 2015, arXiv
    1412.6980), section 3: the initial weights do not count. Every rank computes the same one.
    """

    def __init__(self, model: Network, decay: float) -> None:
        """Start at the weights of a network in training; ``decay`` is between 0 and 1."""
        self._trained = model
        self._averaged = copy.deepcopy(model)
        self._decay = decay
        self._taken = 0

    def restore(self, weights: Mapping[str, Tensor], taken: int) -> None:
        """Go on with a saved average over as many steps."""
        self._averaged.load_state_dict(dict(weights))
        self._taken = taken

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights after a step into the mean."""
        self._taken += 1
        weight = (1 - self._decay) / (1 - self._decay**self._taken)
        torch._foreach_lerp_(list(self._averaged.parameters()), list(self._trained.parameters()), weight)

    @torch.no_grad()
    def current(self) -> Network:
        """Return the averaged network, with the statistics of batch norm as they are: they are averages already."""
        for ours, theirs in zip(self._averaged.buffers(), self._trained.buffers(), strict=True):
            ours.copy_(theirs)
        return self._averaged
