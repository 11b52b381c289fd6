import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from unet_ray.model.segmenter import Segmenter
from unet_ray.model.unet import UNet
from unet_ray.model.unet_valid import ValidUNet

pytestmark = pytest.mark.usefixtures("one_thread")


def make(depth: int, width: int = 4, **options: float) -> ValidUNet:
    torch.manual_seed(0)
    model = ValidUNet(num_classes=3, width=width, depth=depth, **options)  # type: ignore[arg-type]
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, std=0.1)
    return model.eval()


def test_it_has_the_23_convolutions_of_the_paper_and_nothing_else_that_learns() -> None:
    learning = [module for module in ValidUNet(2, 64, 4).modules() if list(module.parameters(recurse=False))]
    kinds = [(type(module), module.kernel_size, module.padding) for module in learning]
    assert kinds.count((nn.Conv2d, (3, 3), (0, 0))) == 18
    assert kinds.count((nn.ConvTranspose2d, (2, 2), (0, 0))) == 4
    assert kinds.count((nn.Conv2d, (1, 1), (0, 0))) == 1
    assert len(kinds) == 23


def test_the_maps_have_the_sizes_of_the_figure_of_the_paper() -> None:
    with torch.device("meta"):
        model = ValidUNet(2, 64, 4, in_channels=1)
        image_BCHW = torch.empty(1, 1, 572, 572)
    maps = model.contract(image_BCHW)
    assert [tuple(one.shape[1:]) for one in maps] == [
        (64, 568, 568), (128, 280, 280), (256, 136, 136), (512, 64, 64), (1024, 28, 28)
    ]  # fmt: skip
    assert model(image_BCHW).shape == (1, 2, 388, 388)
    assert model.sizes.margin == 92


def test_its_output_is_what_its_layers_give_one_by_one() -> None:
    model = make(depth=1)

    def twice(block: nn.Module, x_BCHW: Tensor) -> Tensor:
        for position in (0, 3):
            conv = block.get_submodule(str(position))
            x_BCHW = functional.conv2d(x_BCHW, conv.weight, conv.bias).relu()  # type: ignore[arg-type]
        return x_BCHW

    image_BCHW = torch.randn(2, 3, 22, 26)
    with torch.no_grad():
        fine = twice(model.down[0], image_BCHW)
        coarse = twice(model.down[1], functional.max_pool2d(fine, 2))
        up = model.up[0]
        larger = functional.conv_transpose2d(coarse, up.weight, up.bias, stride=2)  # type: ignore[arg-type]
        assert (fine.shape[2:], larger.shape[2:]) == ((18, 22), (10, 14))
        merged = twice(model.merge[0], torch.cat([fine[:, :, 4:-4, 4:-4], larger], 1))
        wanted_BKHW = functional.conv2d(merged, model.head.weight, model.head.bias)
        assert wanted_BKHW.shape == (2, 3, 6, 10)
        torch.testing.assert_close(model(image_BCHW), wanted_BKHW)


def test_far_from_borders_it_computes_what_the_padded_network_does() -> None:
    model = make(depth=2)
    padded = UNet(3, 4, 2, norm="none").eval()
    padded.load_state_dict(model.state_dict())
    image_BCHW = torch.randn(1, 3, 104, 108)
    with torch.no_grad():
        valid_BKHW = model(image_BCHW)  # of the pixels from 20 on
        padded_BKHW = padded(
            image_BCHW[:, :, 2:-2, 2:-2]
        )  # so that both pool the same squares; of the pixels from 2 on
    assert valid_BKHW.shape == (1, 3, 64, 68)
    torch.testing.assert_close(valid_BKHW[:, :, 4:-4, 4:-4], padded_BKHW[:, :, 22:-22, 22:-22], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(valid_BKHW[:, :, :2], padded_BKHW[:, :, 18:20, 18:-18], rtol=1e-3, atol=1e-3)


def mirrored(image_BCHW: Tensor, margin: int) -> Tensor:
    around = ((0, 0), (0, 0), (margin, margin), (margin, margin))
    return torch.from_numpy(np.pad(image_BCHW.numpy(), around, mode="reflect"))


@pytest.mark.parametrize("depth", [2, 4])
def test_overlapping_tiles_put_together_are_exactly_the_whole(depth: int) -> None:
    model = make(depth, width=2)
    sizes = model.sizes
    tile = sizes.smallest + sizes.stride
    height, width = tile + 2 * sizes.stride, tile + sizes.stride
    image_BCHW = mirrored(torch.randn(1, 3, height, width), sizes.margin)
    # oneDNN chooses its algorithm, and with it the order of sums, by the size of the map.
    with torch.no_grad(), torch.backends.mkldnn.flags(enabled=False):  # type: ignore[no-untyped-call]
        whole_BKHW = model(image_BCHW)
        together_BKHW = torch.full_like(whole_BKHW, torch.nan)
        for top in range(0, height - tile + 1, sizes.stride):
            for left in range(0, width - tile + 1, sizes.stride):
                part_BCHW = image_BCHW[:, :, top:, left:][:, :, : sizes.input_for(tile), : sizes.input_for(tile)]
                together_BKHW[:, :, top : top + tile, left : left + tile] = model(part_BCHW)
    assert whole_BKHW.shape[2:] == (height, width)
    assert torch.equal(together_BKHW, whole_BKHW)


@pytest.mark.parametrize("size", [(4, 4), (7, 30), (21, 3)])
def test_whole_images_are_segmented_by_mirroring_them(size: tuple[int, int]) -> None:
    model = make(depth=2)
    image = np.random.default_rng(0).integers(256, size=(*size, 3), dtype=np.uint8)
    mean, std = (110.0, 90.0, 70.0), (60.0, 50.0, 40.0)
    (found,) = Segmenter(model, mean, std, torch.device("cpu"), "fp32").segment([image])
    mask = found.mask
    height, width = (model.sizes.at_least(side) for side in size)
    rows, columns = (
        [bounce(position - 20, side) for position in range(length + 40)]
        for side, length in zip(size, (height, width), strict=True)
    )
    normalised = ((image.astype(np.float64) - mean) / std)[rows][:, columns]
    with torch.no_grad():
        logits_BKHW = model.double()(torch.from_numpy(normalised).permute(2, 0, 1)[None])
    assert mask.shape == size
    assert (mask == logits_BKHW[0, :, : size[0], : size[1]].argmax(0).numpy()).mean() > 0.99


def bounce(position: int, side: int) -> int:
    """Return the pixel seen at a position of a line of mirrors: the edge itself is not repeated."""
    while not 0 <= position < side:
        position = -position if position < 0 else 2 * (side - 1) - position
    return position


def test_weights_have_the_deviation_of_the_paper() -> None:
    torch.manual_seed(0)
    model = ValidUNet(num_classes=2, width=32, depth=2)
    weights = {"down.1.3": 9 * 64, "up.0": 128, "merge.0.0": 9 * 128}
    for name, inputs in weights.items():
        weight = model.get_parameter(f"{name}.weight").detach()
        assert float(weight.std()) == pytest.approx(math.sqrt(2 / inputs), rel=0.05)
    assert all(not parameter.any() for name, parameter in model.named_parameters() if name.endswith("bias"))


def test_dropout_is_at_the_end_of_the_contracting_path() -> None:
    model = make(depth=2, dropout=0.5).train()
    seen: list[tuple[int, ...]] = []
    model.dropout.register_forward_hook(lambda _, inputs, output: seen.append(tuple(output.shape)))
    model(torch.zeros(1, 3, 44, 44))
    assert seen == [(1, 16, 4, 4)]
