import copy

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unet_ray.config import Arithmetic
from unet_ray.model.segmenter import Segmenter, resolve_precision
from unet_ray.model.unet import UNet

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
MEAN, STD = (110.0, 90.0, 70.0), (60.0, 50.0, 40.0)

Image = NDArray[np.uint8]


@pytest.fixture(scope="module")
def model() -> UNet:
    """A network in training mode whose batch norms have seen data and have affine maps of their own."""
    torch.manual_seed(0)
    model = UNet(num_classes=4, width=4, depth=2)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    with torch.no_grad():
        for _ in range(4):
            model(torch.randn(2, 3, 16, 16) * 1.5 + 0.3)
    return model


def make_images(*sizes: tuple[int, int]) -> list[Image]:
    rng = np.random.default_rng(0)
    return [rng.integers(256, size=(height, width, 3), dtype=np.uint8) for height, width in sizes]


def reference_logits(model: UNet, image: Image) -> Tensor:
    """Return the logits of the unfused network on one image that it can take as it is."""
    normalised = (image.astype(np.float64) - MEAN) / STD
    with torch.no_grad():
        logits_BKHW: Tensor = copy.deepcopy(model).eval().double()(torch.from_numpy(normalised).permute(2, 0, 1)[None])
    return logits_BKHW[0]


def masks_of(segmenter: Segmenter, images: list[Image]) -> list[Image]:
    return [found.mask for found in segmenter.segment(images)]


def agreement(mask: Image, logits_KHW: Tensor) -> float:
    return float((mask == logits_KHW.argmax(0).numpy()).mean())


def test_the_folded_network_gives_the_masks_of_the_unfused_one(model: UNet) -> None:
    segmenter = Segmenter(model, MEAN, STD, CPU, "fp32")
    images = make_images((32, 24), (32, 24))
    for mask, image in zip(masks_of(segmenter, images), images, strict=True):
        logits_KHW = reference_logits(model, image)
        assert mask.shape == (32, 24)
        assert mask.dtype == np.uint8
        assert agreement(mask, logits_KHW) > 0.999
        assert len(np.unique(mask)) >= 3


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_masks_of_sixteen_bits_are_nearly_those_of_fp32(model: UNet, precision: Arithmetic) -> None:
    (image,) = make_images((32, 32))
    (mask,) = masks_of(Segmenter(model, MEAN, STD, CPU, precision), [image])
    assert agreement(mask, reference_logits(model, image)) > 0.97


@pytest.mark.parametrize("size", [(1, 1), (13, 18), (16, 17), (31, 20)])
def test_sizes_the_network_cannot_take_are_padded_with_the_mean_colour_and_cropped_back(
    model: UNet, size: tuple[int, int]
) -> None:
    (image,) = make_images(size)
    height, width = size
    whole = np.empty((-(-height // 4) * 4, -(-width // 4) * 4, 3), np.uint8)
    whole[:] = MEAN
    whole[:height, :width] = image
    (mask,) = masks_of(Segmenter(model, MEAN, STD, CPU, "fp32"), [image])
    assert mask.shape == size
    assert agreement(mask, reference_logits(model, whole)[:, :height, :width]) > 0.995


def test_images_of_mixed_sizes_come_back_in_their_order(model: UNet) -> None:
    segmenter = Segmenter(model, MEAN, STD, CPU, "fp32")
    images = make_images((8, 12), (9, 9), (12, 8), (8, 12), (9, 9), (8, 12))
    masks = masks_of(segmenter, images)
    for image, mask in zip(images, masks, strict=True):
        (alone,) = masks_of(segmenter, [image])
        assert mask.shape == image.shape[:2]
        assert (mask == alone).mean() > 0.99


def test_images_of_one_size_share_a_forward_pass(model: UNet, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, ...]] = []
    forward = UNet.forward

    def note(network: UNet, image_BCHW: Tensor) -> Tensor:
        shapes.append(tuple(image_BCHW.shape))
        return forward(network, image_BCHW)

    monkeypatch.setattr(UNet, "forward", note)
    Segmenter(model, MEAN, STD, CPU, "fp32").segment(make_images((8, 12), (5, 6), (8, 12), (8, 12)))
    assert shapes == [(3, 3, 8, 12), (1, 3, 8, 8)]


def test_the_same_call_gives_the_same_masks(model: UNet) -> None:
    segmenter = Segmenter(model, MEAN, STD, CPU, "fp32")
    images = make_images((16, 16), (13, 9), (16, 16))
    for mask, again in zip(masks_of(segmenter, images), masks_of(segmenter, images), strict=True):
        np.testing.assert_array_equal(mask, again)


def test_nothing_to_segment_gives_nothing(model: UNet) -> None:
    assert Segmenter(model, MEAN, STD, CPU, "fp32").segment([]) == []


def test_a_segmenter_is_a_frozen_copy_and_leaves_the_network_alone(model: UNet) -> None:
    trained = copy.deepcopy(model)
    before = {name: tensor.clone() for name, tensor in trained.state_dict().items()}
    segmenter = Segmenter(trained, MEAN, STD, CPU, "fp32")
    images = make_images((16, 16))
    masks = masks_of(segmenter, images)
    assert trained.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in trained.state_dict().items())
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.zero_()
    np.testing.assert_array_equal(masks_of(segmenter, images), masks)


def test_images_that_cannot_be_written_to_are_taken(model: UNet) -> None:
    (image,) = make_images((8, 8))
    view = np.frombuffer(image.tobytes(), np.uint8).reshape(8, 8, 3)
    segmenter = Segmenter(model, MEAN, STD, CPU, "fp32")
    np.testing.assert_array_equal(masks_of(segmenter, [view]), masks_of(segmenter, [image]))


def test_a_precision_that_is_asked_for_is_used() -> None:
    assert resolve_precision("fp32", CPU) == "fp32"
    assert resolve_precision("bf16", CPU) == "bf16"
    assert resolve_precision("fp16", CPU) == "fp16"
    fast = torch.cpu.get_capabilities().get("avx512_bf16", False)
    assert resolve_precision("auto", CPU) == ("bf16" if fast else "fp32")
