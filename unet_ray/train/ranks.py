"""What the train workers of a run tell each other; a single one talks to nobody."""

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn


def sum_counts(counts: NDArray[np.int64], device: torch.device) -> NDArray[np.int64]:
    """Add integer counts up over all ranks; all of them call it."""
    if not _are_many():
        return counts
    total = torch.from_numpy(counts).to(device)
    dist.all_reduce(total)
    return np.asarray(total.cpu().numpy())


def sum_tensor(tensor: Tensor) -> Tensor:
    """Add a tensor up over all ranks, in place and without waiting for the device; all of them call it."""
    if _are_many():
        dist.all_reduce(tensor)
    return tensor


def share_statistics(model: nn.Module) -> None:
    """Give the batch-norm statistics of rank 0 to all ranks; all of them call it."""
    if _are_many():
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)


def _are_many() -> bool:
    return dist.is_initialized() and dist.get_world_size() > 1
