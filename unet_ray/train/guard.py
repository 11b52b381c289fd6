"""Optimizer steps that leave no trace when their loss or its gradient is not finite.

All ranks hold the same gradient after the backward pass, so all of them skip the same steps without a word.
"""

import math

import torch
from torch import Tensor, nn

from unet_ray.train.scaler import LossScale


class Guard:
    """Takes the steps of an optimizer; each is begun, given one gradient or more, taken and settled.

    The device decides whether the weights change, at once. This process reads the decision only in `settle`, which is
    best called when the next batch is ready: then the device has waited for nothing. Only RMSprop, for which torch has
    no fused kernel, makes this process wait for the gradient.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        clip_norm: float | None,
        loss_scale: LossScale | None = None,
    ) -> None:
        """Make a guard.

        Args:
            model: The network in training.
            optimizer: Its optimizer.
            clip_norm: Largest norm of the gradient, None for no limit.
            loss_scale: What the gradients are scaled by on their way through float16; None for not at all.
        """
        self._parameters = list(model.parameters())
        self._buffers = list(model.buffers())
        self._optimizer = optimizer
        self._clip_norm = math.inf if clip_norm is None else clip_norm
        self._loss_scale = loss_scale
        self._before: list[Tensor] = []
        self._finite = torch.ones((), dtype=torch.bool)

    def begin(self) -> None:
        """Take note of the batch-norm statistics, which the forward pass is going to change, and drop old gradients."""
        self._before = [buffer.clone() for buffer in self._buffers]
        self._optimizer.zero_grad(set_to_none=True)

    def backward(self, loss: Tensor, share: float = 1.0) -> None:
        """Add a share of the gradient of a loss to the step's."""
        scale = 1.0 if self._loss_scale is None else self._loss_scale.scale
        # Not a number where the loss is not finite: its gradient could be finite, here and on the other ranks.
        loss.backward(loss.detach() * 0 + scale * share)  # type: ignore[no-untyped-call]

    def step(self) -> None:
        """Change the weights by the clipped gradient, or neither them nor the moments if it is not finite."""
        if self._loss_scale is not None:
            gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
            torch._foreach_mul_(gradients, 1 / self._loss_scale.scale)
        self._finite = torch.nn.utils.clip_grad_norm_(self._parameters, self._clip_norm).isfinite()
        if self._loss_scale is not None:
            self._loss_scale.update(~self._finite)
        if self._optimizer.defaults.get("fused"):
            # As torch.amp.GradScaler does: the fused kernels read this flag on the device.
            self._optimizer.found_inf = (~self._finite).float()  # type: ignore[attr-defined]
            self._optimizer.step()
        elif self._finite:
            self._optimizer.step()

    def settle(self) -> bool:
        """Tell whether the step was taken; if it was not, put the batch-norm statistics back. Waits for the device."""
        taken = bool(self._finite)
        if not taken:
            for buffer, before in zip(self._buffers, self._before, strict=True):
                buffer.copy_(before)
        return taken
