"""The scale of the loss that keeps small gradients from vanishing in float16."""

import torch
from torch import Tensor

_START = 2.0**16
_FACTOR = 2.0
_PATIENCE = 2000


class LossScale:
    """A power of two that halves when a gradient overflows and doubles after 2000 steps without that.

    Micikevicius et al., "Mixed Precision Training" (ICLR 2018, arXiv 1710.03740), section 3.2, with the numbers of
    ``torch.amp.GradScaler``. It lives on the device: no step waits for it.
    """

    def __init__(self, device: torch.device) -> None:
        """Start at 65536, for gradients on this device."""
        self.scale = torch.tensor(_START, device=device)
        self._calm_steps = torch.tensor(0, device=device)

    def restore(self, scale: float, calm_steps: int) -> None:
        """Go on from a saved `state`."""
        self.scale.fill_(scale)
        self._calm_steps.fill_(calm_steps)

    def update(self, overflow: Tensor) -> None:
        """Change the scale after a step; ``overflow`` is a scalar tensor of bool."""
        calm_steps = self._calm_steps + 1
        grown = torch.where(calm_steps == _PATIENCE, self.scale * _FACTOR, self.scale)
        grown = torch.where(grown.isfinite(), grown, self.scale)
        self.scale = torch.where(overflow, self.scale / _FACTOR, grown)
        self._calm_steps = torch.where(overflow, 0, calm_steps % _PATIENCE)

    def state(self) -> dict[str, float]:
        """Return what `restore` takes. Waits for the device."""
        return {"scale": float(self.scale), "calm_steps": int(self._calm_steps)}
