"""The Lovasz-softmax loss: the IoU itself, extended to probabilities.

Berman, Rannen Triki and Blaschko, "The Lovasz-Softmax loss: a tractable surrogate for the optimization of the
intersection-over-union measure in neural networks", CVPR 2018, arXiv 1705.08790.

Shapes: B batch, K classes, H W pixels, N = B * H * W.
"""

import torch
from torch import Tensor

from unet_ray.losses.labels import count_labels, mean_of_present
from unet_ray.losses.ranking import rank_descending
from unet_ray.schema import IGNORE_INDEX


def lovasz_loss(log_probs_BKHW: Tensor, mask_BHW: Tensor) -> Tensor:
    """Return the mean over the classes that occur of the Lovasz extension of ``1 - IoU``, over the whole batch.

    Equations 8, 9, 11 and 12 of the paper, with classes that do not occur left out as in the authors' own code. A batch
    without any label gives 0.

    Args:
        log_probs_BKHW: ``(B, K, H, W)`` float log-probabilities.
        mask_BHW: ``(B, H, W)`` int64 class ids, 255 = ignored.
    """
    probs_KN = log_probs_BKHW.exp().transpose(0, 1).flatten(1)
    labels_N = mask_BHW.flatten()
    # One at a time: sorting all classes at once has no radix sort, and needs K times the memory.
    losses_K = torch.stack([_extension(probs_N, labels_N, class_id) for class_id, probs_N in enumerate(probs_KN)])
    return mean_of_present(losses_K, count_labels(mask_BHW, len(losses_K)))


def _extension(probs_N: Tensor, labels_N: Tensor, class_id: int) -> Tensor:
    errors_N = torch.where(labels_N == class_id, 1 - probs_N, probs_N)
    order_N = rank_descending(errors_N)
    slopes_N = _slopes(labels_N.index_select(0, order_N), class_id, errors_N.dtype)
    return (errors_N * torch.zeros_like(slopes_N).scatter(0, order_N, slopes_N)).sum()


@torch.no_grad()
def _slopes(labels_N: Tensor, class_id: int, dtype: torch.dtype) -> Tensor:
    """Return by how much the loss of a class grows with each more of the pixels, in this order, that is wrong.

    Algorithm 1 of the paper, its differences worked out: a pixel of the class leaves the intersection I, another one
    joins the union U, an ignored one does neither. So they are exact where I / U itself would be rounded.
    """
    of_class_N = labels_N == class_id
    of_others_N = (labels_N != class_id) & (labels_N != IGNORE_INDEX)
    size = of_class_N.sum()
    intersection_N = (size - of_class_N.cumsum(0)).to(dtype)
    union_N = (size + of_others_N.cumsum(0)).to(dtype)
    joining_N = intersection_N / (union_N * (union_N - 1)).clamp(min=1)
    return torch.where(of_class_N, 1 / union_N.clamp(min=1), joining_N * of_others_N)
