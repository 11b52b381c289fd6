"""What training compares: each output of a network with the mask at its resolution.

Shapes: B batch, K classes, H W pixels.
"""

from torch import Tensor


def compared(outputs: Tensor | tuple[Tensor, ...], mask_BHW: Tensor) -> list[tuple[Tensor, Tensor, float]]:
    """Return logits, mask and weight of every output of a network in training.

    The weight of each output is half that of the next finer one, and all of them sum to 1.

    Args:
        outputs: ``(B, K, H, W)`` logits, or with deep supervision a tuple that begins with them and goes on with
            coarser ones, whose pixels stand for squares.
        mask_BHW: ``(B, H, W)`` int64 class ids.
    """
    levels = (outputs,) if isinstance(outputs, Tensor) else outputs
    total = sum(0.5**level for level in range(len(levels)))
    return [(logits, subsample(mask_BHW, logits), 0.5**level / total) for level, logits in enumerate(levels)]


def subsample(map_BHW: Tensor, logits_BKHW: Tensor) -> Tensor:
    """Return a view of a map at the resolution of logits: of each square the pixel in, or next to, its middle."""
    step = map_BHW.shape[1] // logits_BKHW.shape[2]
    return map_BHW[:, step // 2 :: step, step // 2 :: step]
