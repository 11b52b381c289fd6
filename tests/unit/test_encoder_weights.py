import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from unet_ray.config_training import ModelSection
from unet_ray.errors import ConfigError
from unet_ray.model.build import build_model
from unet_ray.model.encoder_weights import load_encoder_weights
from unet_ray.model.network import SegmentationNetwork

pytestmark = pytest.mark.usefixtures("one_thread")

Weights = dict[str, Tensor]


@pytest.fixture(scope="module")
def resnet18() -> Weights:
    """Give the weights of a whole ResNet18 of torchvision."""
    from torchvision import models

    torch.manual_seed(3)
    state: Weights = dict(models.resnet18(weights=None).state_dict())
    state["bn1.running_mean"] = torch.linspace(-1, 1, 64)
    return state


@pytest.fixture(scope="module")
def model() -> SegmentationNetwork:
    return build_model(ModelSection(kind="resnet18", width=2), num_classes=2)


def section(path: Path, **options: Any) -> ModelSection:
    return ModelSection(**{"kind": "resnet18", "width": 2, "encoder_weights": str(path)} | options)


def as_torch(state: Weights, path: Path) -> None:
    torch.save(state, path)


def as_torch_of_old(state: Weights, path: Path) -> None:
    torch.save(state, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("save", [save_file, as_torch, as_torch_of_old])
def test_the_encoder_takes_the_weights_of_a_file_and_the_rest_stays(
    resnet18: Weights, model: SegmentationNetwork, tmp_path: Path, save: Callable[[Weights, Path], None]
) -> None:
    path = tmp_path / "weights"
    save(resnet18, path)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    load_encoder_weights(model, section(path))
    after = model.state_dict()
    for name, tensor in after.items():
        own = name.removeprefix("encoder.")
        assert torch.equal(tensor, before[name] if own == name else resnet18[own]), name
    model.load_state_dict(before)


def test_weights_of_old_without_counters_and_in_half_precision_are_taken(
    resnet18: Weights, model: SegmentationNetwork, tmp_path: Path
) -> None:
    state = {name: tensor.half() for name, tensor in resnet18.items() if not name.endswith("num_batches_tracked")}
    save_file(state, tmp_path / "w.safetensors")
    load_encoder_weights(model, section(tmp_path / "w.safetensors"))
    assert torch.equal(model.state_dict()["encoder.bn1.running_mean"], state["bn1.running_mean"].float())


def refusal(model: SegmentationNetwork, wanted: ModelSection) -> str:
    with pytest.raises(ConfigError) as caught:
        load_encoder_weights(model, wanted)
    message = str(caught.value)
    assert message.startswith("model.encoder_weights: ")
    assert str(wanted.encoder_weights) in message
    assert "\n" not in message
    return message


def test_weights_that_do_not_fit_are_refused_by_the_first_that_does_not(
    resnet18: Weights, model: SegmentationNetwork, tmp_path: Path
) -> None:
    path = tmp_path / "w.safetensors"
    cases: list[tuple[Weights, str]] = [
        ({"layer1.1.bn2.bias": torch.zeros(3)}, "layer1.1.bn2.bias has the shape (3,), not (64,); name"),
        ({"layer5.weight": torch.zeros(3)}, "layer5.weight is not known; name"),
    ]
    for change, message in cases:
        save_file(resnet18 | change, path)
        assert message in refusal(model, section(path))
    save_file({name: tensor for name, tensor in resnet18.items() if name != "layer2.0.conv1.weight"}, path)
    message = refusal(model, section(path))
    assert (
        "does not fit resnet18 with model.norm batch: layer2.0.conv1.weight is missing; name the state dict of"
        in message
    )
    other = build_model(ModelSection(kind="resnet34", width=2), num_classes=2)
    save_file(resnet18, path)
    message = refusal(other, section(path, kind="resnet34"))
    assert "does not fit resnet34 with model.norm batch: layer1.2.conv1.weight is missing" in message
    assert message.endswith("or the model.kind that these weights are of")


class Harm:
    """What a hostile pickle holds: opening it must not make the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_pickle_that_holds_more_than_tensors_is_refused_and_not_run(
    model: SegmentationNetwork, tmp_path: Path
) -> None:
    path = tmp_path / "w.pth"
    for save in (torch.save, lambda value, where: where.write_bytes(pickle.dumps(value))):
        save({"conv1.weight": Harm(tmp_path / "harm")}, path)  # type: ignore[operator]
        assert "is neither safetensors nor a state dict saved by torch; " in refusal(model, section(path))
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("content", [{"epoch": 3, "state_dict": {}}, {1: torch.zeros(3)}, [1, 2], torch.zeros(3)])
def test_a_file_of_other_values_is_refused(model: SegmentationNetwork, tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "w.pth")
    message = refusal(model, section(tmp_path / "w.pth"))
    assert message.endswith("holds more than names and tensors; save what model.state_dict() gives")


@pytest.mark.parametrize(
    "data",
    [b"", b"PK\x03\x04 cut off", b"<html>not found</html>", b"\x10\x00\x00\x00\x00\x00\x00\x00{bad", b"\x80\x02K"],
)
def test_a_file_that_holds_no_weights_is_refused(model: SegmentationNetwork, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "w.pth").write_bytes(data)
    assert "is neither safetensors nor a state dict saved by torch; " in refusal(model, section(tmp_path / "w.pth"))


def test_a_file_that_is_not_there_is_refused(model: SegmentationNetwork, tmp_path: Path) -> None:
    message = refusal(model, section(tmp_path / "none.pth"))
    assert f"{tmp_path}/none.pth" in message
    assert message.endswith("name a file that is there, or null for new weights")
