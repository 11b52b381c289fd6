"""Optimizer steps that leave no trace when their loss or its gradient is not finite.

All ranks hold the same gradient after the backward pass, so all of them skip the same steps without a word.
"""

import math

import torch
from torch import Tensor

from unet_ray.model.network import SegmentationNetwork


class Guard:
    """Takes the steps of a fused optimizer; each is begun, taken and settled.

    The device decides whether the weights change, at once. This process reads the decision only in `settle`, which is
    best called when the next batch is ready: then the device has waited for nothing.
    """

    def __init__(self, model: SegmentationNetwork, optimizer: torch.optim.Optimizer, clip_norm: float | None) -> None:
        """Make a guard; ``clip_norm`` is the largest norm of the gradient, None for no limit."""
        self._parameters = list(model.parameters())
        self._buffers = list(model.buffers())
        self._optimizer = optimizer
        self._clip_norm = math.inf if clip_norm is None else clip_norm
        self._before: list[Tensor] = []
        self._norm = torch.zeros(())

    def begin(self) -> None:
        """Take note of the batch-norm statistics, which the forward pass is going to change."""
        self._before = [buffer.clone() for buffer in self._buffers]

    def step(self, loss: Tensor) -> None:
        """Change the weights by the clipped gradient of a loss, or neither them nor the moments if it is not finite."""
        self._optimizer.zero_grad(set_to_none=True)
        # From 1, or from NaN where the loss is not finite: its gradient could be finite, here and on the other ranks.
        loss.backward(loss.detach() * 0 + 1)  # type: ignore[no-untyped-call]
        self._norm = torch.nn.utils.clip_grad_norm_(self._parameters, self._clip_norm)
        # As torch.amp.GradScaler does: the fused kernels read this flag on the device.
        self._optimizer.found_inf = (~self._norm.isfinite()).float()  # type: ignore[attr-defined]
        self._optimizer.step()

    def settle(self) -> bool:
        """Tell whether the step was taken; if it was not, put the batch-norm statistics back. Waits for the device."""
        taken = bool(self._norm.isfinite())
        if not taken:
            for buffer, before in zip(self._buffers, self._before, strict=True):
                buffer.copy_(before)
        return taken
