"""Losses and counts held to those of segmentation-models-pytorch, which others train and report with."""

import pytest
import segmentation_models_pytorch as smp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from segmentation_models_pytorch import losses
from torch import Tensor

from unet_ray.losses.lovasz import lovasz_loss
from unet_ray.losses.overlap import dice_loss, jaccard_loss
from unet_ray.losses.pixelwise import cross_entropy
from unet_ray.metrics import count_confusion, score
from unet_ray.schema import IGNORE_INDEX

K = 5

batches = st.tuples(
    st.integers(0, 2**31), st.sampled_from([0.0, 0.3, 0.9]), st.sets(st.integers(0, K - 1), min_size=1)
).map(lambda drawn: make_batch(*drawn))
checked = settings(max_examples=25, deadline=None)


def make_batch(seed: int, ignored: float, occurring: set[int]) -> tuple[Tensor, Tensor]:
    """Return logits, and a mask in which only some classes occur, each of them in a pixel at least."""
    generator = torch.Generator().manual_seed(seed)
    logits_BKHW = 2 * torch.randn((2, K, 7, 9), generator=generator)
    classes = torch.tensor(sorted(occurring))
    mask_BHW = classes[torch.randint(len(classes), (2, 7, 9), generator=generator)]
    mask_BHW[torch.rand((2, 7, 9), generator=generator) < ignored] = IGNORE_INDEX
    mask_BHW[0, 0, : len(classes)] = classes
    return logits_BKHW, mask_BHW


def num_present(mask_BHW: Tensor) -> int:
    return len(set(mask_BHW.unique().tolist()) - {IGNORE_INDEX})


@checked
@given(batches)
def test_dice_is_theirs_averaged_over_the_classes_that_occur(batch: tuple[Tensor, Tensor]) -> None:
    """Theirs gives absent classes a loss of 0 and counts them."""
    logits_BKHW, mask_BHW = batch
    theirs = losses.DiceLoss("multiclass", ignore_index=IGNORE_INDEX)(logits_BKHW, mask_BHW)
    ours = dice_loss(logits_BKHW.log_softmax(1), mask_BHW)
    assert ours.item() == pytest.approx(theirs.item() * K / num_present(mask_BHW), abs=1e-5)


@checked
@given(batches)
def test_jaccard_is_theirs_averaged_over_the_classes_that_occur(batch: tuple[Tensor, Tensor]) -> None:
    """Theirs knows no ignored pixels: they get a class here."""
    logits_BKHW, mask_BHW = batch
    mask_BHW = torch.where(mask_BHW == IGNORE_INDEX, mask_BHW[0, 0, 0], mask_BHW)
    theirs = losses.JaccardLoss("multiclass")(logits_BKHW, mask_BHW)
    ours = jaccard_loss(logits_BKHW.log_softmax(1), mask_BHW)
    assert ours.item() == pytest.approx(theirs.item() * K / num_present(mask_BHW), abs=1e-5)


@checked
@given(batches)
def test_lovasz_is_theirs(batch: tuple[Tensor, Tensor]) -> None:
    logits_BKHW, mask_BHW = batch
    theirs = losses.LovaszLoss("multiclass", ignore_index=IGNORE_INDEX)(logits_BKHW, mask_BHW)
    assert lovasz_loss(logits_BKHW.log_softmax(1), mask_BHW).item() == pytest.approx(theirs.item(), abs=1e-5)


@checked
@given(batches, st.sampled_from([0.0, 0.1, 0.5]))
def test_smoothed_cross_entropy_is_theirs_over_the_labelled_pixels(
    batch: tuple[Tensor, Tensor], label_smoothing: float
) -> None:
    """Theirs divides by all pixels, ours by those that have a label."""
    logits_BKHW, mask_BHW = batch
    theirs = losses.SoftCrossEntropyLoss(smooth_factor=label_smoothing, ignore_index=IGNORE_INDEX)
    ours = cross_entropy(logits_BKHW.log_softmax(1), mask_BHW, torch.ones(K), label_smoothing=label_smoothing)
    labelled = (mask_BHW != IGNORE_INDEX).float().mean().item()
    assert ours.item() * labelled == pytest.approx(theirs(logits_BKHW, mask_BHW).item(), rel=1e-4)


@checked
@given(batches)
def test_counts_by_class_are_theirs(batch: tuple[Tensor, Tensor]) -> None:
    logits_BKHW, mask_BHW = batch
    found_BHW = logits_BKHW.argmax(1)
    tp_BK, fp_BK, fn_BK, _ = smp.metrics.get_stats(
        found_BHW, mask_BHW, mode="multiclass", num_classes=K, ignore_index=IGNORE_INDEX
    )
    planes = zip(mask_BHW.byte().numpy(), found_BHW.byte().numpy(), strict=True)
    for (mask, found), tp_K, fp_K, fn_K in zip(planes, tp_BK, fp_BK, fn_BK, strict=True):
        scores = score(count_confusion(mask, found, K))
        counts = [(one.tp, one.fp, one.fn) for one in scores.classes]
        assert counts == list(zip(tp_K.tolist(), fp_K.tolist(), fn_K.tolist(), strict=True))
