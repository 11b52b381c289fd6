from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from unet_ray.model.unet import UNet

pytestmark = pytest.mark.usefixtures("one_thread")


def count_by_hand(num_classes: int, width: int, depth: int) -> int:
    """Add up the parameters of the architecture as the paper's figure draws it."""

    def block(before: int, after: int) -> int:
        return 9 * before * after + 9 * after * after + 2 * 2 * after  # two convolutions, two batch norms

    widths = [width << level for level in range(depth + 1)]
    down = [block(before, after) for before, after in pairwise([3, *widths])]
    up = [4 * below * above + above + block(2 * above, above) for above, below in pairwise(widths)]
    return sum(down) + sum(up) + width * num_classes + num_classes


@pytest.mark.parametrize(("num_classes", "width", "depth"), [(5, 4, 2), (3, 7, 1), (2, 6, 4)])
def test_the_number_of_parameters_is_that_of_the_architecture(num_classes: int, width: int, depth: int) -> None:
    model = UNet(num_classes, width, depth)
    assert sum(parameter.numel() for parameter in model.parameters()) == count_by_hand(num_classes, width, depth)


def test_at_full_size_the_number_of_parameters_is_the_well_known_one() -> None:
    assert count_by_hand(num_classes=2, width=64, depth=4) == 31_037_698


def test_the_network_of_the_paper_has_23_convolutions() -> None:
    convolutions = (nn.Conv2d, nn.ConvTranspose2d)
    modules = UNet(num_classes=2, width=2, depth=4).modules()
    kinds = [(type(module), module.kernel_size) for module in modules if isinstance(module, convolutions)]
    assert kinds.count((nn.Conv2d, (3, 3))) == 18
    assert kinds.count((nn.ConvTranspose2d, (2, 2))) == 4
    assert kinds.count((nn.Conv2d, (1, 1))) == 1
    assert len(kinds) == 23


@pytest.mark.parametrize(("depth", "height", "width"), [(1, 2, 6), (2, 12, 4), (3, 8, 24), (4, 16, 32)])
def test_logits_have_the_size_of_the_image(depth: int, height: int, width: int) -> None:
    model = UNet(num_classes=3, width=2, depth=depth).eval()
    assert (model.sizes.stride, model.sizes.margin) == (2**depth, 0)
    assert model(torch.zeros(2, 3, height, width)).shape == (2, 3, height, width)


def test_other_numbers_of_channels_are_taken() -> None:
    assert UNet(num_classes=2, width=2, depth=1, in_channels=5)(torch.zeros(1, 5, 4, 4)).shape == (1, 2, 4, 4)


def test_the_same_seed_gives_the_same_weights() -> None:
    def make(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return nn.utils.parameters_to_vector(UNet(2, 2, 1).parameters())

    assert torch.equal(make(0), make(0))
    assert not torch.equal(make(0), make(1))


def test_every_parameter_has_a_part_in_the_result() -> None:
    torch.manual_seed(0)
    model = UNet(num_classes=3, width=4, depth=3)
    (model(torch.randn(4, 3, 16, 16)) * torch.randn(4, 3, 16, 16)).sum().backward()
    moved = {
        name for name, parameter in model.named_parameters() if parameter.grad is not None and parameter.grad.any()
    }
    assert moved == set(dict(model.named_parameters()))


def changed_pixels(model: UNet, side: int) -> Tensor:
    """Return which output pixels change, in any image, with the pixel in the middle of the input."""
    image_BCHW = torch.randn(8, 3, side, side)
    other_BCHW = image_BCHW.clone()
    other_BCHW[:, :, side // 2, side // 2] += 3
    with torch.no_grad():
        difference_BKHW: Tensor = model(image_BCHW) - model(other_BCHW)
    return (difference_BKHW.abs() > 1e-6).any(0).any(0).nonzero() - side // 2


def test_the_skip_connection_carries_the_fine_detail_and_the_path_below_the_context() -> None:
    torch.manual_seed(0)
    model = UNet(num_classes=2, width=4, depth=2).eval()
    with_context = changed_pixels(model, 64)
    for weight in model.up.parameters():
        nn.init.zeros_(weight)
    without = changed_pixels(model, 64)
    assert without.abs().max() <= 4  # four 3x3 convolutions at full resolution: 9 x 9 pixels
    assert without.abs().max() >= 3
    assert with_context.abs().max() > 10


def test_the_levels_are_joined_as_in_the_figure_of_the_paper() -> None:
    def halve(x_BCHW: Tensor) -> Tensor:
        batch, channels, height, width = x_BCHW.shape
        return x_BCHW.reshape(batch, channels, height // 2, 2, width // 2, 2).amax((3, 5))

    torch.manual_seed(0)
    model = UNet(num_classes=2, width=4, depth=2).eval()
    image_BCHW = torch.randn(2, 3, 8, 12)
    with torch.no_grad():
        fine = model.down[0](image_BCHW)
        middle = model.down[1](halve(fine))
        coarse = model.down[2](halve(middle))
        middle = model.merge[0](torch.cat([middle, model.up[0](coarse)], 1))
        fine = model.merge[1](torch.cat([fine, model.up[1](middle)], 1))
        assert torch.equal(model(image_BCHW), model.head(fine))
