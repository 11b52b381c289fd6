"""What a network is made of, found by running it on tensors without data: shapes, parameters, multiplications.

Shapes: B batch, C channels, H W pixels.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from unet_ray.config_training import ModelSection
from unet_ray.model.build import build_model
from unet_ray.model.network import SegmentationNetwork

Path = Literal["down", "up", "merge", "head", "coarse head"]
Shape = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A step of the network: what one level of a path does, by the names of its modules in the state dict.

    ``level`` counts halvings of the resolution. ``output`` is (channels, height, width), None for what only training
    runs; ``macs`` are multiply-accumulate operations for one image. `Layer` has each layer with weights.
    """

    name: str
    path: Path
    level: int
    output: Shape | None
    parameters: int
    macs: int


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer with weights; ``output`` and ``macs`` as of a `Stage`."""

    name: str
    kind: str
    output: Shape | None
    parameters: int
    macs: int


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A network in numbers, for one image of ``input_size`` whose output is ``output_size`` (height, width)."""

    input_size: tuple[int, int]
    output_size: tuple[int, int]
    stages: tuple[Stage, ...]
    layers: tuple[Layer, ...]

    @property
    def parameters(self) -> int:
        """Number of weights that are learnt."""
        return sum(stage.parameters for stage in self.stages)

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations of the convolutions, for one image."""
        return sum(stage.macs for stage in self.stages)

    def gmacs_per_megapixel(self, macs: int) -> float:
        """Return operations for one image as 10^9 of them for 10^6 pixels of output."""
        return macs / 1e3 / math.prod(self.output_size)


def trace(section: ModelSection, num_classes: int, size: tuple[int, int]) -> Architecture:
    """Return the architecture of a section's network; nothing is computed but shapes, and no weights are drawn.

    Args:
        section: The network.
        num_classes: Number of its output channels.
        size: Height and width its output is to cover; the next larger ones the network can put out are taken.
    """
    height, width = map(section.sizes.input_for, size)
    with torch.device("meta"):
        model = build_model(section, num_classes).eval()
        outputs, macs = _run(model, torch.empty(1, 3, height, width))
    names = {module: name for name, module in model.named_modules()}
    stages = tuple(
        Stage(
            name=" + ".join(names[module] for module in modules if _parameters(module)),
            path=path,
            level=level,
            output=outputs.get(modules[-1]),
            parameters=sum(map(_parameters, modules)),
            macs=sum(macs.get(inner, 0) for module in modules for inner in module.modules()),
        )
        for path, level, modules in _stages(model)
    )
    layers = tuple(
        Layer(
            name=name,
            kind=type(module).__name__,
            output=outputs.get(module),
            parameters=_parameters(module),
            macs=macs.get(module, 0),
        )
        for module, name in names.items()
        if any(True for _ in module.parameters(recurse=False))
    )
    return Architecture(
        input_size=(height, width),
        output_size=(section.sizes.at_least(size[0]), section.sizes.at_least(size[1])),
        stages=stages,
        layers=layers,
    )


def _stages(model: SegmentationNetwork) -> Iterator[tuple[Path, int, Sequence[nn.Module]]]:
    """Yield every module with weights once, in the order of the forward pass: path, level, modules."""
    contracting, expanding = model.contracting_path(), list(zip(model.up, model.merge, strict=True))
    finest = len(expanding) + 1 - len(contracting)  # a ResNet's first level is half the image
    for level, modules in enumerate(contracting, finest):
        yield "down", level, modules
    for level, (up, merge) in zip(reversed(range(len(expanding))), expanding, strict=True):
        yield "up", level, [up]
        yield "merge", level, [merge]
    for level, head in enumerate(reversed(model.coarse_heads), 1):
        yield "coarse head", level, [head]
    yield "head", 0, [model.head]


def _run(model: nn.Module, image_BCHW: Tensor) -> tuple[dict[nn.Module, Shape], dict[nn.Module, int]]:
    """Return the output shape of every module that runs, and the multiplications of every convolution."""
    shapes: dict[nn.Module, Shape] = {}
    macs: dict[nn.Module, int] = {}

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        shapes[module] = (output.shape[1], output.shape[2], output.shape[3])
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            # Each output of a convolution, or input of a transposed one, meets one kernel of the channels beyond.
            met, beyond = (
                (output, module.in_channels) if isinstance(module, nn.Conv2d) else (inputs[0], module.out_channels)
            )
            macs[module] = met.numel() * beyond // module.groups * math.prod(module.kernel_size)

    handles = [module.register_forward_hook(note) for module in model.modules()]
    with torch.no_grad():
        model(image_BCHW)
    for handle in handles:
        handle.remove()
    return shapes, macs


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
