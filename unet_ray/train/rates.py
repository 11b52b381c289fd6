"""The learning rate of every step: a pure function of the step and of the options, so that nothing is ever saved."""

import math

from unet_ray.config_training import OptimSection

_POLY_POWER = 0.9
_STEP_FACTOR = 0.1
_ONE_CYCLE_START = 1 / 25


def learning_rate(step: int, total_steps: int, optim: OptimSection) -> float:
    """Return the learning rate of an optimizer step, counted from 0.

    A linear warm-up from 0, then one of:

    - ``cosine``: half a cosine; equation 5 of Loshchilov and Hutter, "SGDR" (ICLR 2017, arXiv 1608.03983), without
      restarts.
    - ``poly``: ``(1 - progress) ** 0.9``; Chen et al., "DeepLab" (2017, arXiv 1606.00915), section 4.
    - ``step``: a tenth after each milestone, as He et al., "Deep Residual Learning" (2015, arXiv 1512.03385).
    - ``constant``.

    ``one_cycle`` has a rise of its own, half a cosine from a 25th of ``lr``, and falls as ``cosine`` does, after Smith
    and Topin, "Super-Convergence" (2018, arXiv 1708.07120), in the form of ``torch.optim.lr_scheduler.OneCycleLR``;
    momentum is not cycled.
    """
    if optim.schedule == "one_cycle":
        return optim.lr * _one_cycle(step, total_steps, optim.warmup_fraction, optim.final_lr_fraction)
    warmup = round(optim.warmup_fraction * total_steps)
    if step < warmup:
        return optim.lr * (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, total_steps - warmup)
    match optim.schedule:
        case "cosine":
            share = _cosine(1.0, optim.final_lr_fraction, progress)
        case "poly":
            share = optim.final_lr_fraction + (1 - optim.final_lr_fraction) * (1 - progress) ** _POLY_POWER
        case "step":
            share = _STEP_FACTOR ** sum(step >= round(milestone * total_steps) for milestone in optim.milestones)
        case "constant":
            share = 1.0
    return optim.lr * share


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def _one_cycle(step: int, total_steps: int, rise: float, final: float) -> float:
    top = max(0.0, rise * total_steps - 1)
    if step < top:
        return _cosine(_ONE_CYCLE_START, 1.0, step / top)
    return _cosine(1.0, final, (step - top) / max(1.0, total_steps - 1 - top))
