"""Weights that the encoder of a network begins with, from a file of the user's. Runs on the driver and in workers."""

import io
from collections.abc import Mapping

import torch
from safetensors.torch import load as parse_tensors
from torch import Tensor

from unet_ray import storage
from unet_ray.config_training import ModelSection
from unet_ray.errors import ConfigError, NotFoundError
from unet_ray.model.network import SegmentationNetwork

_KEY = "model.encoder_weights"
_CLASSIFIER = "fc."
_COUNTER = "num_batches_tracked"


def load_encoder_weights(model: SegmentationNetwork, section: ModelSection) -> None:
    """Give the encoder of a network the weights that ``section.encoder_weights`` names.

    The names are those of torchvision's ResNets; the classifier's (``fc.``) are passed over. Such weights are as a
    rule of images normalised by the mean and deviation of ImageNet; ours are normalised by those of the dataset.

    Raises:
        ConfigError: The file is not there, holds anything but tensors, or tensors that are not those of the encoder.
        StorageError: The file cannot be read.
    """
    uri = section.encoder_weights
    assert uri is not None
    encoder = model.get_submodule("encoder")
    found = {name: tensor for name, tensor in _read(uri).items() if not name.startswith(_CLASSIFIER)}
    wanted = encoder.state_dict()
    if misfit := _first_misfit(found, wanted):
        raise ConfigError(
            f"{_KEY}: {uri} does not fit {section.kind} with model.norm {section.resolved_norm}: {misfit}; name the "
            f"state dict of torchvision's {section.kind}, or the model.kind that these weights are of"
        )
    encoder.load_state_dict(found, strict=False)  # weights of old have no counters


def _read(uri: str) -> Mapping[str, Tensor]:
    """Return the tensors of a safetensors file, or of one of ``torch.save``, of which nothing but tensors is read."""
    try:
        data = storage.read_bytes(uri)
    except NotFoundError as error:
        raise ConfigError(f"{_KEY}: {error}; name a file that is there, or null for new weights") from error
    try:
        if data[8:9] == b"{":  # a header in JSON behind its length
            return parse_tensors(data)
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch's readers fail in any way on bytes that are not theirs
        raise ConfigError(
            f"{_KEY}: {uri} is neither safetensors nor a state dict saved by torch; nothing else is read, as it could "
            "run code: save what model.state_dict() gives"
        ) from error
    if not isinstance(content, Mapping) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in content.items()
    ):
        raise ConfigError(f"{_KEY}: {uri} holds more than names and tensors; save what model.state_dict() gives")
    return content


def _first_misfit(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str | None:
    """Say of the first tensor that is missing, of another shape or not known what is wrong with it."""
    for name, tensor in wanted.items():
        if name not in found:
            if not name.endswith(_COUNTER):
                return f"{name} is missing"
        elif found[name].shape != tensor.shape:
            return f"{name} has the shape {tuple(found[name].shape)}, not {tuple(tensor.shape)}"
    return next((f"{name} is not known" for name in found if name not in wanted), None)
