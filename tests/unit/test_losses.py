from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from unet_ray.losses import cross_entropy, dice_loss, segmentation_loss
from unet_ray.schema import IGNORE_INDEX

pytestmark = pytest.mark.usefixtures("one_thread")

B, K, H, W = 2, 4, 6, 5
WEIGHTS_K = torch.tensor([0.5, 2.0, 1.0, 0.0])


def make_batch(ignored: float = 0.3, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits_BKHW = 3 * torch.randn((B, K, H, W), generator=generator, dtype=dtype)
    mask_BHW = torch.randint(K, (B, H, W), generator=generator)
    mask_BHW[torch.rand((B, H, W), generator=generator) < ignored] = IGNORE_INDEX
    return logits_BKHW.requires_grad_(), mask_BHW


def slow_dice(logits_BKHW: Tensor, mask_BHW: Tensor) -> float:
    probs = logits_BKHW.double().softmax(1).permute(0, 2, 3, 1)[mask_BHW != IGNORE_INDEX].tolist()
    labels = mask_BHW[mask_BHW != IGNORE_INDEX].tolist()
    losses: list[float] = []
    for class_id in range(K):
        if class_id in labels:
            overlap = sum(prob[class_id] for prob, label in zip(probs, labels, strict=True) if label == class_id)
            total = sum(prob[class_id] for prob in probs) + labels.count(class_id)
            losses.append(1 - 2 * overlap / total)
    return sum(losses) / len(losses)


@pytest.mark.parametrize("weights_K", [None, WEIGHTS_K])
@pytest.mark.parametrize("ignored", [0.0, 0.3])
def test_cross_entropy_and_its_gradient_are_those_of_torch(ignored: float, weights_K: Tensor | None) -> None:
    logits_BKHW, mask_BHW = make_batch(ignored)
    ours = cross_entropy(logits_BKHW.log_softmax(1), mask_BHW, weights_K)
    torchs = functional.cross_entropy(logits_BKHW, mask_BHW, weights_K, ignore_index=IGNORE_INDEX)
    assert ours.item() == pytest.approx(torchs.item())
    (our_grad,), (torchs_grad,) = (torch.autograd.grad(loss, logits_BKHW) for loss in (ours, torchs))
    assert torch.allclose(our_grad, torchs_grad, atol=1e-7)


@pytest.mark.parametrize("ignored", [0.0, 0.3, 0.95])
def test_dice_is_that_of_a_slow_reference(ignored: float) -> None:
    logits_BKHW, mask_BHW = make_batch(ignored)
    assert dice_loss(logits_BKHW.log_softmax(1), mask_BHW).item() == pytest.approx(slow_dice(logits_BKHW, mask_BHW))


def test_dice_is_zero_for_a_certain_and_right_answer_and_one_for_a_wrong_one() -> None:
    mask_BHW = torch.tensor([[[0, 1, 1, IGNORE_INDEX]]])
    right_BKHW = 100.0 * functional.one_hot(mask_BHW.clamp(max=2), 3).permute(0, 3, 1, 2)
    assert dice_loss(right_BKHW.log_softmax(1), mask_BHW).item() == pytest.approx(0, abs=1e-6)
    assert dice_loss(right_BKHW.roll(1, dims=1).log_softmax(1), mask_BHW).item() == pytest.approx(1, abs=1e-6)


def test_dice_leaves_out_classes_that_do_not_occur() -> None:
    logits_BKHW, mask_BHW = make_batch()
    mask_BHW[mask_BHW == 2] = IGNORE_INDEX
    assert dice_loss(logits_BKHW.log_softmax(1), mask_BHW).item() == pytest.approx(slow_dice(logits_BKHW, mask_BHW))


@pytest.mark.parametrize("weights_K", [None, WEIGHTS_K])
def test_ignored_pixels_have_neither_value_nor_gradient(weights_K: Tensor | None) -> None:
    logits_BKHW, mask_BHW = make_batch()
    loss = segmentation_loss(logits_BKHW, mask_BHW, class_weights_K=weights_K, dice_weight=0.5)
    (grad_BKHW,) = torch.autograd.grad(loss, logits_BKHW)
    ignored_BHW = mask_BHW == IGNORE_INDEX
    assert torch.all(grad_BKHW.permute(0, 2, 3, 1)[ignored_BHW] == 0)
    assert torch.all(grad_BKHW.permute(0, 2, 3, 1)[~ignored_BHW].abs().sum(1) > 0)
    other_BKHW = torch.where(ignored_BHW.unsqueeze(1), torch.full_like(logits_BKHW, -7.0), logits_BKHW)
    assert segmentation_loss(other_BKHW, mask_BHW, class_weights_K=weights_K, dice_weight=0.5) == loss


@pytest.mark.parametrize("weights_K", [None, WEIGHTS_K])
def test_a_batch_without_labels_gives_zero_and_no_gradient(weights_K: Tensor | None) -> None:
    logits_BKHW, mask_BHW = make_batch(ignored=1.1)
    loss = segmentation_loss(logits_BKHW, mask_BHW, class_weights_K=weights_K, dice_weight=0.5)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert logits_BKHW.grad is not None
    assert torch.all(logits_BKHW.grad == 0)


def test_labels_that_weigh_nothing_give_zero() -> None:
    logits_BKHW, mask_BHW = make_batch()
    mask_BHW.fill_(3)  # its weight is 0
    assert cross_entropy(logits_BKHW.log_softmax(1), mask_BHW, WEIGHTS_K).item() == 0


@pytest.mark.parametrize("loss", [cross_entropy, dice_loss])
def test_gradients_are_those_of_finite_differences(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    logits_BKHW, mask_BHW = make_batch(dtype=torch.float64)
    (grad_BKHW,) = torch.autograd.grad(loss(logits_BKHW.log_softmax(1), mask_BHW), logits_BKHW)
    for position in range(0, logits_BKHW.numel(), 7):
        step = torch.zeros(logits_BKHW.numel(), dtype=torch.float64).index_fill(0, torch.tensor(position), 1e-5)
        ahead, behind = (
            loss((logits_BKHW.detach() + sign * step.view_as(logits_BKHW)).log_softmax(1), mask_BHW) for sign in (1, -1)
        )
        assert grad_BKHW.flatten()[position].item() == pytest.approx((ahead - behind).item() / 2e-5, abs=1e-9)


def test_the_loss_is_cross_entropy_plus_weighted_dice() -> None:
    logits_BKHW, mask_BHW = make_batch()
    log_probs_BKHW = logits_BKHW.log_softmax(1)
    plain = segmentation_loss(logits_BKHW, mask_BHW, class_weights_K=WEIGHTS_K, dice_weight=0)
    both = segmentation_loss(logits_BKHW, mask_BHW, class_weights_K=WEIGHTS_K, dice_weight=0.25)
    assert plain.item() == pytest.approx(cross_entropy(log_probs_BKHW, mask_BHW, WEIGHTS_K).item())
    assert both.item() == pytest.approx((plain + 0.25 * dice_loss(log_probs_BKHW, mask_BHW)).item())


def test_low_precision_channels_last_logits_are_scored_in_float32() -> None:
    logits_BKHW, mask_BHW = make_batch()
    low_BKHW = logits_BKHW.detach().bfloat16().to(memory_format=torch.channels_last)
    loss = segmentation_loss(low_BKHW, mask_BHW, class_weights_K=None, dice_weight=0.5)
    assert loss.dtype == torch.float32
    same = segmentation_loss(low_BKHW.float().contiguous(), mask_BHW, class_weights_K=None, dice_weight=0.5)
    assert loss == same


def test_very_confident_logits_give_finite_losses_and_gradients() -> None:
    logits_BKHW = torch.tensor([1e4, -1e4, 0.0, 5e3]).view(1, 4, 1, 1).expand(1, 4, 2, 2).clone().requires_grad_()
    mask_BHW = torch.tensor([[[0, 1], [2, IGNORE_INDEX]]])
    loss = segmentation_loss(logits_BKHW, mask_BHW, class_weights_K=None, dice_weight=1.0)
    (grad_BKHW,) = torch.autograd.grad(loss, logits_BKHW)
    assert torch.isfinite(loss)
    assert torch.isfinite(grad_BKHW).all()
