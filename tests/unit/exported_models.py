"""Small networks of each kind, in checkpoints and as ONNX files, each made once in a session."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tests.unit.tiny_training import CARD
from unet_ray import model_export
from unet_ray.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from unet_ray.config_training import ModelSection
from unet_ray.quality import Estimator
from unet_ray.reference import LEVELS, Reference, name_numbers

ESTIMATOR = Estimator(intercept=0.1, slope=0.8, error=0.05, frames=50)
NUMBERS = name_numbers(CARD.class_map.classes)
REFERENCE = Reference.of(NUMBERS, np.random.default_rng(0).integers(5, size=(len(NUMBERS), LEVELS)))
MODELS = {
    "unet": ModelSection(width=8, depth=2),
    "rich": ModelSection(
        width=8, depth=3, norm="group", upsampling="bilinear", residual=True, deep_supervision=True, dropout=0.5
    ),
    "valid": ModelSection(kind="unet_valid", width=8, depth=2, norm="batch"),
    "resnet18": ModelSection(kind="resnet18", width=8),
}


@dataclass(frozen=True)
class Pair:
    """A checkpoint and the ONNX file of its network."""

    checkpoint: Checkpoint
    file: str


class Pairs:
    """A `Pair` by the name of each of `MODELS`, made when it is asked for; they are not to be changed."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._made: dict[str, Pair] = {}

    def __getitem__(self, name: str) -> Pair:
        if name not in self._made:
            checkpoint = make_checkpoint(self._root / name, MODELS[name])
            file = model_export.run(checkpoint.info.uri, f"{self._root}/{name}.onnx").file
            self._made[name] = Pair(checkpoint, file)
        return self._made[name]


def make_checkpoint(root: Path, section: ModelSection) -> Checkpoint:
    """Save and load a network whose batch norms have seen data, and whose logits have a spread of about 1."""
    torch.manual_seed(0)
    card = replace(CARD, model=section)
    model = card.build()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
    image_BCHW = torch.randn(2, 3, *[section.sizes.input_for(32)] * 2)
    with torch.no_grad():
        for _ in range(3):
            model(image_BCHW)
        logits_BKHW = model.eval()(image_BCHW)
        model.head.weight /= logits_BKHW.std()
        model.head.bias -= logits_BKHW.mean((0, 2, 3)) / logits_BKHW.std()
    optimizer = torch.optim.SGD(model.parameters())
    info = save_checkpoint(
        str(root), card=card, model=model, optimizer=optimizer, step=7, epoch=3, score=0.5, estimator=ESTIMATOR,
        reference=REFERENCE, progress={},
    )  # fmt: skip
    return load_checkpoint(info)
