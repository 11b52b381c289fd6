import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.unit.drawn_shapes import NUM_CLASSES, draw_shapes, to_batch
from tests.unit.tiny_training import CARD
from unet_ray.checkpoint import load_checkpoint, save_checkpoint
from unet_ray.config_training import LossSection, ModelSection
from unet_ray.losses.segmentation import SegmentationLoss
from unet_ray.metrics import count_confusion, score
from unet_ray.model.blocks import ConvBlock, ResidualBlock, make_norm, make_up
from unet_ray.model.build import build_model
from unet_ray.model.network import SegmentationNetwork
from unet_ray.model.outputs import compared, subsample
from unet_ray.model.segmenter import Segmenter
from unet_ray.model.unet import UNet

pytestmark = pytest.mark.usefixtures("one_thread")

SIDE = 32
CPU = torch.device("cpu")
NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)


def tiny(kind: str, **options: Any) -> ModelSection:
    size = {"width": 16} if kind.startswith("resnet") else {"width": 8, "depth": 2}
    return ModelSection(**{"kind": kind, **size, **options})


PLAIN = [tiny(kind) for kind in ("unet", "unet_valid", "resnet18", "resnet34", "resnet50")]
EVERY = {"norm": "group", "upsampling": "bilinear", "dropout": 0.5, "residual": True, "deep_supervision": True}
VARIANTS = [
    *PLAIN,
    *(tiny("unet", **{key: value}) for key, value in EVERY.items()),
    *(tiny("unet", norm=norm) for norm in ("sync_batch", "none")),
    tiny("unet", **EVERY),
    tiny("unet", residual=True, norm="none"),
    *(tiny("unet_valid", norm=norm, dropout=0.5) for norm in ("batch", "group")),
    *(tiny("resnet18", norm=norm, upsampling="bilinear", deep_supervision=True) for norm in ("group", "sync_batch")),
]


def label(section: ModelSection) -> str:
    default = ModelSection(kind=section.kind)
    options = ("norm", "upsampling", "dropout", "residual", "deep_supervision")
    changed = [f"{key}={getattr(section, key)}" for key in options if getattr(section, key) != getattr(default, key)]
    return " ".join([section.kind, *changed])


def build(section: ModelSection) -> SegmentationNetwork:
    torch.manual_seed(0)
    return build_model(section, NUM_CLASSES).to(memory_format=torch.channels_last)


def loss_of(model: SegmentationNetwork, image_BCHW: Tensor, mask_BHW: Tensor) -> Tensor:
    criterion = SegmentationLoss(LossSection(), torch.ones(model.head.out_channels))
    losses = [
        weight * criterion(logits_BKHW, target_BHW)
        for logits_BKHW, target_BHW, weight in compared(model(image_BCHW), mask_BHW)
    ]
    return torch.stack(losses).sum()


def with_statistics(section: ModelSection) -> SegmentationNetwork:
    """Return a network in training mode whose batch norms have seen data and have affine maps of their own."""
    model = build(section)
    for module in model.modules():
        if isinstance(module, NORMS):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
    image_BCHW, _ = to_batch(*draw_shapes(SIDE), section.sizes.margin)
    with torch.no_grad():
        for _ in range(3):
            model(image_BCHW)
    return model


def test_the_default_network_is_made_of_the_same_random_numbers_as_ever() -> None:
    def block(before: int, after: int) -> list[nn.Module]:
        return [nn.Conv2d(before, after, 3, bias=False), nn.Conv2d(after, after, 3, bias=False)]

    torch.manual_seed(5)
    found = [parameter for parameter in UNet(3, 4, 2).parameters() if parameter.ndim == 4]
    torch.manual_seed(5)
    layers = [*block(3, 4), *block(4, 8), *block(8, 16)]
    layers += [
        nn.ConvTranspose2d(16, 8, 2),
        nn.ConvTranspose2d(8, 4, 2),
        *block(16, 8),
        *block(8, 4),
        nn.Conv2d(4, 3, 1),
    ]
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")  # type: ignore[arg-type]
    assert [torch.equal(one, layer.weight) for one, layer in zip(found, layers, strict=True)] == [True] * len(layers)


@pytest.mark.parametrize("section", VARIANTS, ids=label)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_network_takes_a_step_with_all_its_parameters(section: ModelSection, precision: str) -> None:
    model = build(section)
    image_BCHW, mask_BHW = to_batch(*draw_shapes(SIDE), section.sizes.margin)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        loss = loss_of(model, image_BCHW[:2], mask_BHW[:2])
    loss.backward()
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert without == []
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    before = model.head.weight.detach().clone()
    torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True).step()
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert not torch.equal(before, model.head.weight)


@pytest.mark.parametrize("section", [*PLAIN, tiny("unet", **EVERY | {"dropout": 0.1})], ids=label)
def test_every_network_learns_four_frames_by_heart_and_segments_them(section: ModelSection) -> None:
    model = build(section)
    images, masks = draw_shapes(SIDE)
    image_BCHW, mask_BHW = to_batch(images, masks, section.sizes.margin)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, fused=True)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=80)
    for step in range(1, 81):
        optimizer.zero_grad()
        loss_of(model, image_BCHW, mask_BHW).backward()
        optimizer.step()
        schedule.step()
        if step >= 30 and step % 10 == 0:
            segmenter = Segmenter(model, (100.0,) * 3, (60.0,) * 3, CPU, "fp32")
            pairs = zip(masks, segmenter.segment(list(images)), strict=True)
            confusion = sum(count_confusion(mask, found.mask, NUM_CLASSES) for mask, found in pairs)
            if (score(confusion, None).miou or 0) > 0.95:
                return
    pytest.fail("80 steps were not enough")


@pytest.mark.parametrize("section", VARIANTS, ids=label)
def test_logits_have_the_size_that_the_section_promises(section: ModelSection) -> None:
    model, sizes = build(section).eval(), section.sizes
    assert model.sizes == sizes
    height, width = sizes.at_least(1), sizes.at_least(1) + 2 * sizes.stride
    image_BCHW = torch.zeros(2, 3, height + 2 * sizes.margin, width + 2 * sizes.margin)
    assert model(image_BCHW).shape == (2, NUM_CLASSES, height, width)


@pytest.mark.parametrize("section", VARIANTS, ids=label)
def test_folding_batch_norms_leaves_none_and_changes_nothing(section: ModelSection) -> None:
    model = with_statistics(section)
    image_BCHW, _ = to_batch(*draw_shapes(SIDE), section.sizes.margin)
    folded = Segmenter(model, (0.0,) * 3, (1.0,) * 3, CPU, "fp32")._model
    has_norms = [isinstance(module, NORMS) for module in model.modules()]
    assert any(has_norms) == (section.resolved_norm in ("batch", "sync_batch"))
    assert not any(isinstance(module, NORMS) for module in folded.modules())
    with torch.no_grad():
        wanted_BKHW, found_BKHW = copy.deepcopy(model).eval()(image_BCHW), folded(image_BCHW)
    torch.testing.assert_close(found_BKHW, wanted_BKHW, rtol=1e-3, atol=1e-3 * float(wanted_BKHW.std()))


@pytest.mark.parametrize("section", [PLAIN[0], PLAIN[1], PLAIN[2]], ids=label)
@pytest.mark.parametrize("size", [(1, 1), (3, 70), (41, 18)])
def test_images_of_any_size_are_segmented(section: ModelSection, size: tuple[int, int]) -> None:
    segmenter = Segmenter(with_statistics(section), (100.0,) * 3, (60.0,) * 3, CPU, "fp32")
    image = np.random.default_rng(0).integers(256, size=(*size, 3), dtype=np.uint8)
    (found,) = segmenter.segment([image])
    assert (found.mask.shape, found.mask.dtype) == (size, np.uint8)


@pytest.mark.parametrize("section", [*PLAIN[:3], tiny("unet", **EVERY)], ids=label)
def test_a_network_comes_back_from_its_checkpoint(section: ModelSection, tmp_path: Path) -> None:
    card = replace(CARD, model=section)
    model = with_statistics(section)
    optimizer = torch.optim.AdamW(model.parameters())
    info = save_checkpoint(
        str(tmp_path),
        card=card,
        model=model,
        optimizer=optimizer,
        step=1,
        epoch=1,
        metric="miou",
        score=None,
        progress={},
    )
    loaded = load_checkpoint(info)
    assert loaded.card == card
    image_BCHW, _ = to_batch(*draw_shapes(SIDE), section.sizes.margin)
    with torch.no_grad():
        again = loaded.load_model().eval().to(memory_format=torch.channels_last)
        assert torch.equal(again(image_BCHW), model.eval()(image_BCHW))


# Options


def test_deep_supervision_gives_coarser_logits_in_training_only() -> None:
    model = build(tiny("unet", depth=3, deep_supervision=True))
    image_BCHW = torch.randn(2, 3, 16, 24)
    shapes = [tuple(logits_BKHW.shape[2:]) for logits_BKHW in model(image_BCHW)]
    assert shapes == [(16, 24), (8, 12), (4, 6)]
    assert model.eval()(image_BCHW).shape == (2, NUM_CLASSES, 16, 24)


def test_coarser_logits_are_compared_with_the_middle_of_squares_and_weigh_half_each() -> None:
    mask_BHW = torch.arange(2 * 8 * 8).reshape(2, 8, 8)
    outputs = tuple(torch.zeros(2, 3, side, side) for side in (8, 4, 2))
    triples = compared(outputs, mask_BHW)
    assert [logits_BKHW is output for (logits_BKHW, _, _), output in zip(triples, outputs, strict=True)] == [True] * 3
    assert [weight for _, _, weight in triples] == [4 / 7, 2 / 7, 1 / 7]
    assert torch.equal(triples[0][1], mask_BHW)
    assert torch.equal(triples[1][1], mask_BHW[:, 1::2, 1::2])
    assert torch.equal(triples[2][1], mask_BHW[:, [2, 6]][:, :, [2, 6]])


def test_a_single_output_is_compared_as_it_is() -> None:
    logits_BKHW, mask_BHW = torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4)
    ((same_BKHW, target_BHW, weight),) = compared(logits_BKHW, mask_BHW)
    assert same_BKHW is logits_BKHW
    assert torch.equal(target_BHW, mask_BHW)
    assert weight == 1
    assert subsample(mask_BHW, logits_BKHW).data_ptr() == mask_BHW.data_ptr()


def test_bilinear_upsampling_is_interpolation_followed_by_a_convolution() -> None:
    torch.manual_seed(0)
    up = make_up(8, 4, "bilinear")
    x_BCHW = torch.randn(2, 8, 5, 7)
    assert isinstance(up, nn.Sequential)
    larger_BCHW = nn.functional.interpolate(x_BCHW, scale_factor=2, mode="bilinear")
    torch.testing.assert_close(up(x_BCHW), up[0](larger_BCHW))


def test_a_residual_block_adds_its_input() -> None:
    block = ResidualBlock(4, 4).eval()
    for parameter in block.body.parameters():
        nn.init.zeros_(parameter)
    nn.init.dirac_(block.shortcut[0].weight)
    x_BCHW = torch.randn(1, 4, 6, 6)
    torch.testing.assert_close(block(x_BCHW), x_BCHW.relu(), rtol=1e-4, atol=1e-4)  # batch norm divides by 1 + eps


@pytest.mark.parametrize(("channels", "groups"), [(64, 8), (16, 8), (4, 4), (7, 1), (12, 4)])
def test_group_norm_has_eight_groups_or_as_many_as_divide(channels: int, groups: int) -> None:
    norm = make_norm("group", channels)
    assert isinstance(norm, nn.GroupNorm)
    assert norm.num_groups == groups


def test_convolutions_have_a_bias_only_where_no_norm_has_one() -> None:
    for norm, biased in (("batch", False), ("sync_batch", False), ("group", False), ("none", True)):
        convs = [module for module in ConvBlock(2, 3, norm) if isinstance(module, nn.Conv2d)]  # type: ignore[arg-type]
        assert [conv.bias is not None for conv in convs] == [biased, biased]


def test_dropout_falls_on_the_coarsest_map_in_training_only() -> None:
    model = build(tiny("unet", dropout=0.5))
    image_BCHW = torch.randn(2, 3, 16, 16)
    shapes = []
    model.dropout.register_forward_hook(lambda _, inputs, output: shapes.append(tuple(output.shape)))
    assert not torch.equal(model(image_BCHW), model(image_BCHW))
    model.eval()
    assert torch.equal(model(image_BCHW), model(image_BCHW))
    assert set(shapes) == {(2, 32, 4, 4)}


def test_a_resnet_is_the_one_of_torchvision_with_maps_of_each_size() -> None:
    from torchvision import models

    model = build(tiny("resnet18"))
    theirs = models.resnet18(weights=None).state_dict()
    ours = model.get_submodule("encoder").state_dict()
    assert {name: tensor.shape for name, tensor in theirs.items() if not name.startswith("fc.")} == {
        name: tensor.shape for name, tensor in ours.items()
    }
    maps = model.contract(torch.zeros(1, 3, 64, 96))
    assert [tuple(one.shape[1:]) for one in maps] == [
        (64, 32, 48), (64, 16, 24), (128, 8, 12), (256, 4, 6), (512, 2, 3)
    ]  # fmt: skip
