from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from unet_ray.config_training import LossSection
from unet_ray.losses.lovasz import lovasz_loss
from unet_ray.losses.overlap import dice_loss, jaccard_loss
from unet_ray.losses.pixelwise import cross_entropy, focal_loss
from unet_ray.losses.ranking import keep_hardest, rank_descending
from unet_ray.losses.segmentation import SegmentationLoss
from unet_ray.schema import IGNORE_INDEX

pytestmark = pytest.mark.usefixtures("one_thread")

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
Loss = Callable[[Tensor, Tensor], Tensor]

B, K, H, W = 2, 4, 6, 5
ONES_K = torch.ones(K)
WEIGHTS_K = torch.tensor([0.5, 2.0, 1.0, 0.0])
SECTIONS = {
    "cross_entropy": LossSection(cross_entropy=1, dice=0),
    "smoothed": LossSection(cross_entropy=1, dice=0, label_smoothing=0.1),
    "dice": LossSection(cross_entropy=0, dice=1),
    "jaccard": LossSection(cross_entropy=0, dice=0, jaccard=1),
    "focal": LossSection(cross_entropy=0, dice=0, focal=1),
    "flat focal": LossSection(cross_entropy=0, dice=0, focal=1, focal_gamma=0.5),
    "lovasz": LossSection(cross_entropy=0, dice=0, lovasz=1),
    "hard": LossSection(cross_entropy=1, dice=0, focal=1, ohem_fraction=0.3),
    "all": LossSection(jaccard=0.5, focal=2, lovasz=1, label_smoothing=0.1, ohem_fraction=0.5),
}
every_loss = pytest.mark.parametrize("section", SECTIONS.values(), ids=SECTIONS)


def make_batch(ignored: float = 0.3, dtype: torch.dtype = torch.float32, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits_BKHW = 3 * torch.randn((B, K, H, W), generator=generator, dtype=dtype)
    mask_BHW = torch.randint(K, (B, H, W), generator=generator)
    mask_BHW[torch.rand((B, H, W), generator=generator) < ignored] = IGNORE_INDEX
    return logits_BKHW.requires_grad_(), mask_BHW


def make_border(seed: int = 1) -> Tensor:
    return 10 * torch.rand((B, H, W), generator=torch.Generator().manual_seed(seed))


def labelled_pixels(logits_BKHW: Tensor, mask_BHW: Tensor) -> tuple[Floats, Labels]:
    """Return the probabilities ``(N, K)`` and labels ``(N,)`` of the pixels that have a label, by the definition."""
    logits = logits_BKHW.detach().double().numpy().transpose(0, 2, 3, 1)[mask_BHW.numpy() != IGNORE_INDEX]
    powers = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    return powers / powers.sum(axis=1, keepdims=True), mask_BHW.numpy()[mask_BHW.numpy() != IGNORE_INDEX]


def mean_over_present(loss: Callable[[Floats, Floats], float], probs: Floats, labels: Labels) -> float:
    losses = [loss(probs[:, k], (labels == k).astype(np.float64)) for k in range(K) if (labels == k).any()]
    return sum(losses) / len(losses) if losses else 0.0


def slow_dice(p: Floats, t: Floats) -> float:
    return float(1 - 2 * (p * t).sum() / (p.sum() + t.sum()))


def slow_jaccard(p: Floats, t: Floats) -> float:
    return float(1 - (p * t).sum() / (p + t - p * t).sum())


def slow_lovasz(p: Floats, t: Floats) -> float:
    """Add up each error times what its pixel adds to 1 - IoU, when those with larger errors are wrong already."""
    errors = np.abs(t - p)
    wrong: set[int] = set()
    truth = set(np.flatnonzero(t).tolist())
    loss = before = 0.0
    for position in np.argsort(-errors).tolist():
        wrong.add(position)
        after = len(wrong) / len(truth | wrong)
        loss += float(errors[position]) * (after - before)
        before = after
    return loss


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights_K", [ONES_K, WEIGHTS_K])
@pytest.mark.parametrize("ignored", [0.0, 0.3])
def test_cross_entropy_and_its_gradient_are_those_of_torch(ignored: float, weights_K: Tensor, smoothing: float) -> None:
    logits_BKHW, mask_BHW = make_batch(ignored)
    ours = cross_entropy(logits_BKHW.log_softmax(1), mask_BHW, weights_K, label_smoothing=smoothing)
    torchs = functional.cross_entropy(
        logits_BKHW, mask_BHW, weights_K, ignore_index=IGNORE_INDEX, label_smoothing=smoothing
    )
    assert ours.item() == pytest.approx(torchs.item())
    (our_grad,), (torchs_grad,) = (torch.autograd.grad(loss, logits_BKHW) for loss in (ours, torchs))
    assert torch.allclose(our_grad, torchs_grad, atol=1e-7)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_border_weights_are_added_to_those_of_the_classes(smoothing: float) -> None:
    logits_BKHW, mask_BHW = make_batch()
    border_BHW = make_border()
    probs, labels = labelled_pixels(logits_BKHW, mask_BHW)
    weights = WEIGHTS_K.double().numpy() + border_BHW.double().numpy()[mask_BHW.numpy() != IGNORE_INDEX][:, None]
    targets = (1 - smoothing) * np.eye(K)[labels] + smoothing / K
    expected = (weights * targets * -np.log(probs)).sum() / weights[range(len(labels)), labels].sum()
    log_probs_BKHW = logits_BKHW.log_softmax(1)
    ours = cross_entropy(log_probs_BKHW, mask_BHW, WEIGHTS_K, border_BHW, label_smoothing=smoothing)
    assert ours.item() == pytest.approx(expected)
    if not smoothing:
        assert focal_loss(log_probs_BKHW, mask_BHW, WEIGHTS_K, border_BHW, gamma=0).item() == pytest.approx(expected)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.3, 0.9, 1.0]), st.integers(1, K))
def test_losses_of_regions_are_their_definitions(seed: int, ignored: float, present: int) -> None:
    logits_BKHW, mask_BHW = make_batch(ignored, seed=seed)
    mask_BHW[(mask_BHW >= present) & (mask_BHW != IGNORE_INDEX)] = 0
    probs, labels = labelled_pixels(logits_BKHW, mask_BHW)
    log_probs_BKHW = logits_BKHW.log_softmax(1)
    for loss, slow in ((dice_loss, slow_dice), (jaccard_loss, slow_jaccard), (lovasz_loss, slow_lovasz)):
        expected = mean_over_present(slow, probs, labels)
        assert loss(log_probs_BKHW, mask_BHW).item() == pytest.approx(expected, abs=1e-5), loss


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("weights_K", [ONES_K, WEIGHTS_K])
def test_focal_loss_is_its_definition(weights_K: Tensor, gamma: float) -> None:
    logits_BKHW, mask_BHW = make_batch()
    probs, labels = labelled_pixels(logits_BKHW, mask_BHW)
    p, alpha = probs[range(len(labels)), labels], weights_K.numpy()[labels]
    expected = (alpha * (1 - p) ** gamma * -np.log(p)).sum() / alpha.sum()
    ours = focal_loss(logits_BKHW.log_softmax(1), mask_BHW, weights_K, gamma=gamma)
    assert ours.item() == pytest.approx(expected)


@pytest.mark.parametrize("loss", [dice_loss, jaccard_loss, lovasz_loss])
def test_a_certain_and_right_answer_costs_nothing_and_a_wrong_one_costs_one(loss: Loss) -> None:
    mask_BHW = torch.tensor([[[0, 1, 1, IGNORE_INDEX]]])
    right_BKHW = 100.0 * functional.one_hot(mask_BHW.clamp(max=2), 3).permute(0, 3, 1, 2)
    assert loss(right_BKHW.log_softmax(1), mask_BHW).item() == pytest.approx(0, abs=1e-6)
    assert loss(right_BKHW.roll(1, dims=1).log_softmax(1), mask_BHW).item() == pytest.approx(1, abs=1e-6)


def test_between_certain_answers_lovasz_is_one_minus_the_mean_iou() -> None:
    generator = torch.Generator().manual_seed(0)
    mask_BHW, answer_BHW = torch.randint(K, (2, B, H, W), generator=generator)
    certain_BKHW = 100.0 * functional.one_hot(answer_BHW, K).permute(0, 3, 1, 2)
    ious = [
        ((mask_BHW == k) & (answer_BHW == k)).sum().item() / ((mask_BHW == k) | (answer_BHW == k)).sum().item()
        for k in range(K)
    ]
    assert lovasz_loss(certain_BKHW.log_softmax(1), mask_BHW).item() == pytest.approx(1 - sum(ious) / K)


@every_loss
@pytest.mark.parametrize("border_BHW", [None, make_border()], ids=["plain", "border"])
def test_ignored_pixels_have_neither_value_nor_gradient(section: LossSection, border_BHW: Tensor | None) -> None:
    logits_BKHW, mask_BHW = make_batch()
    loss = SegmentationLoss(section, WEIGHTS_K)
    value = loss(logits_BKHW, mask_BHW, border_BHW)
    (grad_BKHW,) = torch.autograd.grad(value, logits_BKHW)
    ignored_BHW = mask_BHW == IGNORE_INDEX
    assert torch.all(grad_BKHW.permute(0, 2, 3, 1)[ignored_BHW] == 0)
    assert torch.any(grad_BKHW != 0)
    other_BKHW = torch.where(ignored_BHW.unsqueeze(1), torch.full_like(logits_BKHW, -7.0), logits_BKHW)
    other_border_BHW = None if border_BHW is None else torch.where(ignored_BHW, 1000.0, border_BHW)
    assert loss(other_BKHW, mask_BHW, other_border_BHW).item() == pytest.approx(value.item(), rel=1e-6)


@every_loss
@pytest.mark.parametrize("border_BHW", [None, make_border()], ids=["plain", "border"])
def test_a_batch_without_labels_gives_zero_and_no_gradient(section: LossSection, border_BHW: Tensor | None) -> None:
    logits_BKHW, mask_BHW = make_batch(ignored=1.1)
    loss = SegmentationLoss(section, WEIGHTS_K)(logits_BKHW, mask_BHW, border_BHW)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert logits_BKHW.grad is not None
    assert torch.all(logits_BKHW.grad == 0)


@every_loss
def test_very_confident_logits_give_finite_losses_and_gradients(section: LossSection) -> None:
    logits_BKHW = torch.tensor([1e4, -1e4, 0.0, 5e3]).view(1, 4, 1, 1).expand(1, 4, 2, 2).clone().requires_grad_()
    mask_BHW = torch.tensor([[[0, 1], [2, IGNORE_INDEX]]])
    loss = SegmentationLoss(section, ONES_K)(logits_BKHW, mask_BHW, torch.ones(1, 2, 2))
    (grad_BKHW,) = torch.autograd.grad(loss, logits_BKHW)
    assert torch.isfinite(loss)
    assert torch.isfinite(grad_BKHW).all()


@every_loss
def test_low_precision_channels_last_logits_are_scored_in_float32(section: LossSection) -> None:
    logits_BKHW, mask_BHW = make_batch()
    low_BKHW = logits_BKHW.detach().bfloat16().to(memory_format=torch.channels_last)
    loss = SegmentationLoss(section, WEIGHTS_K)
    assert loss(low_BKHW, mask_BHW).dtype == torch.float32
    assert loss(low_BKHW, mask_BHW) == loss(low_BKHW.float().contiguous(), mask_BHW)


class NeverWait(TorchDispatchMode):
    """Refuses operations whose result, or its shape, this process must know before it can go on."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert not {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(func.tags), func
        return func(*args, **(kwargs or {}))


@every_loss
def test_no_loss_waits_for_the_device(section: LossSection) -> None:
    logits_BKHW, mask_BHW = make_batch()
    with NeverWait():
        loss = SegmentationLoss(section, WEIGHTS_K)(logits_BKHW, mask_BHW, make_border())
        torch.autograd.grad(loss, logits_BKHW)
        for waits in (loss.item, mask_BHW.flatten().bincount, lambda: mask_BHW[mask_BHW > 1]):
            with pytest.raises(AssertionError):
                waits()


WEIGHTS64_K = WEIGHTS_K.double()


@pytest.mark.parametrize(
    "loss",
    [
        partial(cross_entropy, class_weights_K=WEIGHTS64_K, border_BHW=make_border().double(), label_smoothing=0.1),
        partial(focal_loss, class_weights_K=WEIGHTS64_K, border_BHW=make_border().double(), gamma=2.0),
        dice_loss,
        jaccard_loss,
        lovasz_loss,
    ],
)
def test_gradients_are_those_of_finite_differences(loss: Loss) -> None:
    logits_BKHW, mask_BHW = make_batch(dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda logits_BKHW: loss(logits_BKHW.log_softmax(1), mask_BHW), logits_BKHW)


def test_labels_that_weigh_nothing_give_zero() -> None:
    logits_BKHW, mask_BHW = make_batch()
    mask_BHW.fill_(3)  # its weight is 0
    assert cross_entropy(logits_BKHW.log_softmax(1), mask_BHW, WEIGHTS_K).item() == 0
    assert focal_loss(logits_BKHW.log_softmax(1), mask_BHW, WEIGHTS_K, gamma=2).item() == 0


@pytest.mark.parametrize(("fraction", "kept"), [(1.0, 47), (0.5, 24), (0.1, 5), (1e-9, 1)])
def test_the_hardest_labelled_pixels_keep_their_labels(fraction: float, kept: int) -> None:
    logits_BKHW, mask_BHW = make_batch()
    assert (mask_BHW != IGNORE_INDEX).sum() == 47
    log_probs_BKHW = logits_BKHW.detach().log_softmax(1)
    hard_BHW = keep_hardest(log_probs_BKHW, mask_BHW, fraction)
    is_hard_BHW = hard_BHW != IGNORE_INDEX
    assert is_hard_BHW.sum() == kept
    assert torch.equal(hard_BHW[is_hard_BHW], mask_BHW[is_hard_BHW])
    of_truth_BHW = log_probs_BKHW.gather(1, mask_BHW.clamp(max=K - 1).unsqueeze(1)).squeeze(1)
    easy = of_truth_BHW[~is_hard_BHW & (mask_BHW != IGNORE_INDEX)]
    assert of_truth_BHW[is_hard_BHW].max() < easy.min() if len(easy) else kept == 47


def test_where_all_answers_are_certain_and_right_labelled_pixels_are_still_taken_before_ignored_ones() -> None:
    _, mask_BHW = make_batch(ignored=0.6)
    right_BKHW = 100.0 * functional.one_hot(mask_BHW.clamp(max=K - 1), K).permute(0, 3, 1, 2)
    hard_BHW = keep_hardest(right_BKHW.log_softmax(1), mask_BHW, 0.99)
    assert (hard_BHW != IGNORE_INDEX).sum() == (mask_BHW != IGNORE_INDEX).sum()


def test_hard_examples_count_in_pixelwise_losses_and_all_pixels_in_those_of_regions() -> None:
    logits_BKHW, mask_BHW = make_batch()
    log_probs_BKHW = logits_BKHW.log_softmax(1)
    hard_BHW = keep_hardest(log_probs_BKHW, mask_BHW, 0.25)
    section = LossSection(cross_entropy=1, focal=2, dice=3, ohem_fraction=0.25)
    expected = (
        cross_entropy(log_probs_BKHW, hard_BHW, WEIGHTS_K)
        + 2 * focal_loss(log_probs_BKHW, hard_BHW, WEIGHTS_K, gamma=2)
        + 3 * dice_loss(log_probs_BKHW, mask_BHW)
    )
    assert SegmentationLoss(section, WEIGHTS_K)(logits_BKHW, mask_BHW).item() == pytest.approx(expected.item())


def test_values_are_ranked_from_the_largest_and_what_is_no_number_first() -> None:
    values_N = torch.tensor([0.5, -0.0, torch.nan, 2.0, -1.0, 1e-45, torch.inf])
    order = rank_descending(values_N).tolist()
    assert order == [2, 6, 3, 0, 5, 1, 4]


def test_the_loss_is_the_weighted_sum_of_its_terms() -> None:
    logits_BKHW, mask_BHW = make_batch()
    log_probs_BKHW, border_BHW = logits_BKHW.log_softmax(1), make_border()
    section = LossSection(cross_entropy=0.5, dice=0.25, jaccard=2, focal=3, lovasz=4, label_smoothing=0.1)
    expected = (
        0.5 * cross_entropy(log_probs_BKHW, mask_BHW, WEIGHTS_K, border_BHW, label_smoothing=0.1)
        + 0.25 * dice_loss(log_probs_BKHW, mask_BHW)
        + 2 * jaccard_loss(log_probs_BKHW, mask_BHW)
        + 3 * focal_loss(log_probs_BKHW, mask_BHW, WEIGHTS_K, border_BHW, gamma=2)
        + 4 * lovasz_loss(log_probs_BKHW, mask_BHW)
    )
    found = SegmentationLoss(section, WEIGHTS_K)(logits_BKHW, mask_BHW, border_BHW)
    assert found.item() == pytest.approx(expected.item())


def test_the_default_is_cross_entropy_and_half_of_dice() -> None:
    logits_BKHW, mask_BHW = make_batch()
    torchs = functional.cross_entropy(logits_BKHW, mask_BHW, WEIGHTS_K, ignore_index=IGNORE_INDEX)
    dice = mean_over_present(slow_dice, *labelled_pixels(logits_BKHW, mask_BHW))
    found = SegmentationLoss(LossSection(), WEIGHTS_K)(logits_BKHW, mask_BHW)
    assert found.item() == pytest.approx(torchs.item() + 0.5 * dice)
