"""Beginning a run with the weights of another: fine-tuning, on another list of classes if need be."""

from collections.abc import Sequence

import torch

from unet_ray.checkpoint import Checkpoint
from unet_ray.config_training import ModelSection
from unet_ray.errors import ConfigError
from unet_ray.model.network import SegmentationNetwork

_HEADS = ("head", "coarse_heads")
_SAME = ("kind", "width", "depth", "resolved_norm", "upsampling", "residual")


def check_start(start: Checkpoint, model: ModelSection) -> None:
    """Refuse a checkpoint of another network; what only training knows of, such as dropout, may differ.

    Raises:
        ConfigError: Its weights have no place in this network.
    """
    for name in _SAME:
        found, wanted = getattr(start.card.model, name), getattr(model, name)
        if found != wanted:
            key = "model.norm" if name == "resolved_norm" else f"model.{name}"
            raise ConfigError(
                f"train.start_from: {start.info.uri} is of {key} {found}, this run has {wanted}; set {key} to {found}, "
                "or begin with another checkpoint"
            )


def new_classes(start: Checkpoint, classes: Sequence[str]) -> list[str]:
    """Return the classes that the checkpoint does not know, whose part of the head begins anew."""
    return [name for name in classes if name not in start.card.class_map.classes]


def take_weights(model: SegmentationNetwork, start: Checkpoint, classes: Sequence[str]) -> None:
    """Give a new network the weights that a checkpoint predicts with; each class it knows keeps its part of the head.

    Classes are known by name, in whatever order.
    """
    given = start.load_model().state_dict()
    known = start.card.class_map.classes
    rows = [(row, known.index(name)) for row, name in enumerate(classes) if name in known]
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if key.partition(".")[0] not in _HEADS:
                tensor.copy_(given[key])
            elif key in given:  # only networks with deep supervision have coarse heads
                for row, known_row in rows:
                    tensor[row] = given[key][known_row]
