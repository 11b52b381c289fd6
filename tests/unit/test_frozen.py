import pytest
import torch
from torch import nn

from unet_ray.config_training import ModelSection
from unet_ray.model.build import build_model
from unet_ray.model.frozen import fold_batch_norm, freeze

pytestmark = pytest.mark.usefixtures("one_thread")

MODELS = {
    "unet": ModelSection(width=8, depth=2),
    "group": ModelSection(width=8, depth=2, norm="group"),
    "none": ModelSection(width=8, depth=2, norm="none"),
    "rich": ModelSection(width=8, depth=2, upsampling="bilinear", residual=True, deep_supervision=True),
    "valid": ModelSection(kind="unet_valid", width=8, depth=2),
    "resnet18": ModelSection(kind="resnet18", width=4),
    "resnet50": ModelSection(kind="resnet50", width=4),
}
NUM_RELUS = {"unet": 10, "group": 0, "none": 10, "rich": 5, "valid": 10, "resnet18": 10, "resnet50": 10}
"""ReLUs in sequences behind a convolution, group norm aside: there nothing can be folded."""


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", list(MODELS))
@torch.inference_mode()
def test_a_relu_inside_its_convolution_changes_no_bit(name: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = build_model(MODELS[name], 5)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    plain = fold_batch_norm(model).to(dtype).to(memory_format=torch.channels_last)
    frozen = freeze(model, torch.device("cpu"), dtype)
    side = model.sizes.at_least(64) + 2 * model.sizes.margin
    image_BCHW = torch.randn(2, 3, side, side).to(dtype).contiguous(memory_format=torch.channels_last)
    kept, wanted = image_BCHW.clone(), plain(image_BCHW)
    assert torch.equal(frozen(image_BCHW), wanted)
    assert torch.equal(image_BCHW, kept)
    assert wanted.unique().numel() > 100
    count = [sum(isinstance(module, nn.ReLU) for module in network.modules()) for network in (plain, frozen)]
    assert count[0] - count[1] == NUM_RELUS[name]


def test_the_network_itself_stays_as_it_was() -> None:
    model = build_model(MODELS["unet"], 5)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    freeze(model, torch.device("cpu"), torch.bfloat16)
    assert model.training
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
