"""The network of a configuration: a table, a drawing, and the numbers in a file. Runs on the driver, without Ray."""

import json
import sys
from dataclasses import asdict, dataclass

from unet_ray import storage
from unet_ray.architecture.drawing import draw_architecture
from unet_ray.architecture.trace import Architecture, Stage, trace
from unet_ray.columns import align
from unet_ray.config import Config
from unet_ray.config_training import ModelSection
from unet_ray.datasets.layouts import labels_of
from unet_ray.labels.classes import ClassMap
from unet_ray.labels.scheme import make_class_map
from unet_ray.table.plan import find_plan

_SIZE = (360, 480)


@dataclass(frozen=True, kw_only=True)
class ModelResult:
    """Where the drawing is, and the network in numbers. Sizes are (height, width), of one image.

    ``gmacs_per_megapixel`` are 10^9 multiply-accumulate operations of the convolutions for 10^6 pixels of output.
    """

    drawing: str
    parameters: int
    gmacs_per_megapixel: float
    num_classes: int
    input_size: tuple[int, int]
    output_size: tuple[int, int]


def run(config: Config) -> ModelResult:
    """Write the drawing and the numbers of the network to ``<run>/model``, and its table to standard error.

    Shapes are those of a training crop, or of 360 x 480 pixels.

    Raises:
        ConfigError: The labels, which tell the number of classes, do not fit together.
    """
    num_classes = _num_classes(config)
    architecture = trace(config.model, num_classes, config.augment.crop or _SIZE)
    uri = f"{config.run_uri}/model"
    png, svg = draw(config.model, architecture)
    storage.write(f"{uri}/model.json", _document(config, architecture))
    storage.write(f"{uri}/model_arch.svg", svg)
    storage.write(f"{uri}/model_arch.png", png)
    sys.stderr.write("\n".join([*table(architecture), "", f"model: {uri}/model_arch.png", ""]))
    return ModelResult(
        drawing=f"{uri}/model_arch.png",
        parameters=architecture.parameters,
        gmacs_per_megapixel=round(architecture.gmacs_per_megapixel(architecture.macs), 3),
        num_classes=num_classes,
        input_size=architecture.input_size,
        output_size=architecture.output_size,
    )


def draw(section: ModelSection, architecture: Architecture) -> tuple[bytes, bytes]:
    """Return the drawing of a section's network as PNG and as SVG."""
    return draw_architecture(architecture, _title(section, architecture), _arrow_names(section))


def table(architecture: Architecture) -> list[str]:
    """Return a line for each stage and the sums, in columns."""

    def cells(stage: Stage) -> list[str]:
        shape = "training only" if stage.output is None else " x ".join(map(str, stage.output))
        rate = architecture.gmacs_per_megapixel(stage.macs)
        return [stage.name, str(stage.level), shape, f"{stage.parameters:,}", f"{rate:.3f}"]

    height, width = architecture.input_size
    head = ["stage", "level", "channels x h x w", "parameters", "GMAC/Mpx"]
    first = ["image", "0", f"3 x {height} x {width}", "", ""]
    total = f"{architecture.gmacs_per_megapixel(architecture.macs):.3f}"
    last = ["all", "", "", f"{architecture.parameters:,}", total]
    return align([head, first, *map(cells, architecture.stages), last])


def _num_classes(config: Config) -> int:
    """Return the number of classes of the dataset, or where none is planned yet that of the labels."""
    plan = find_plan(config.dataset_uri)
    if plan is not None:
        return ClassMap.from_facts(plan.facts).num_classes
    labels = labels_of(config)
    return labels.clusters if labels.scheme == "kmeans" else make_class_map(labels).num_classes


def _document(config: Config, architecture: Architecture) -> bytes:
    numbers = {"parameters": architecture.parameters, "macs": architecture.macs}
    return json.dumps({"model": asdict(config.model)} | numbers | asdict(architecture), indent=1).encode()


def _title(section: ModelSection, architecture: Architecture) -> str:
    norm = "no" if section.resolved_norm == "none" else section.resolved_norm
    traits = {
        f"depth {section.depth}": not section.is_resnet,
        f"width {section.width}": True,
        f"{norm} norm": True,
        "residual": section.residual,
        "deep supervision": section.deep_supervision,
    }
    shown = ", ".join(trait for trait, holds in traits.items() if holds)
    rate = architecture.gmacs_per_megapixel(architecture.macs)
    return f"{section.kind}: {shown}\n{architecture.parameters / 1e6:.2f} M parameters, {rate:.1f} GMAC per megapixel"


def _arrow_names(section: ModelSection) -> dict[str, str]:
    """Return what the arrows of the drawing stand for."""
    convolutions = "two 3x3 convolutions" + (", residual" if section.residual else "")
    halve = f"blocks of {section.kind}" if section.is_resnet else f"2x2 max pooling, {convolutions}"
    transposed = section.upsampling == "transposed"
    return {
        "convolve": convolutions,
        "halve": f"half the size: {halve}",
        "double": f"twice the size: {'2x2 transposed' if transposed else '1x1'} convolution"
        + ("" if transposed else ", bilinear interpolation"),
        "copy": "copied, its middle" if section.sizes.margin else "copied",
        "classify": "1x1 convolution" + (", in training also of coarser levels" if section.deep_supervision else ""),
    }
