import json
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import cv2
import pytest
import torch
from torch import nn

from unet_ray.architecture.run import run, table
from unet_ray.architecture.trace import trace
from unet_ray.config import Config, RunSection
from unet_ray.config_file import parse_config
from unet_ray.config_input import DataSection
from unet_ray.config_training import ModelSection
from unet_ray.errors import ConfigError
from unet_ray.model.build import build_model

SECTIONS = [
    ModelSection(),
    ModelSection(width=4, depth=2, residual=True, upsampling="bilinear", deep_supervision=True),
    ModelSection(kind="unet_valid", width=4, depth=3),
    ModelSection(kind="resnet18", width=4, deep_supervision=True),
    ModelSection(kind="resnet50", width=4, norm="group"),
]


def macs_by_hand(num_classes: int, width: int, depth: int, height: int, width_px: int) -> int:
    """Add up multiplications level by level: pixels times 9 in out, 4 in out at a quarter of the pixels for the up."""
    pixels = [height * width_px // 4**level for level in range(depth + 1)]
    widths = [width * 2**level for level in range(depth + 1)]
    down = [
        9 * size * after * (before + after)
        for size, (before, after) in zip(pixels, pairwise([3, *widths]), strict=True)
    ]
    up = [4 * pixels[level + 1] * widths[level + 1] * widths[level] for level in range(depth)]
    merge = [9 * pixels[level] * widths[level] * (2 * widths[level] + widths[level]) for level in range(depth)]
    return sum(down) + sum(up) + sum(merge) + pixels[0] * width * num_classes


@pytest.mark.parametrize(("width", "depth", "size"), [(16, 4, (368, 480)), (8, 2, (16, 24))])
def test_the_multiplications_of_the_padded_network_are_those_counted_by_hand(
    width: int, depth: int, size: tuple[int, int]
) -> None:
    found = trace(ModelSection(width=width, depth=depth), 12, size)
    assert found.macs == macs_by_hand(12, width, depth, *size)


def test_the_multiplications_of_a_resnet_are_the_well_known_ones() -> None:
    found = trace(ModelSection(kind="resnet18"), 2, (224, 224))
    encoder = sum(stage.macs for stage in found.stages if stage.path == "down")
    assert encoder == 1_814_073_344 - 512 * 1000  # as published, without the classifier


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.kind)
def test_stages_hold_every_weight_and_every_multiplication_once(section: ModelSection) -> None:
    found = trace(section, 5, (64, 96))
    model = build_model(section, 5)
    assert found.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert found.parameters == sum(layer.parameters for layer in found.layers)
    assert found.macs == sum(layer.macs for layer in found.layers)
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)]
    in_training = [layer for layer in found.layers if layer.output is None]
    assert sum(layer.macs > 0 for layer in found.layers) == len(convolutions) - len(in_training)
    assert all(layer.name.startswith("coarse_heads.") for layer in in_training)
    assert bool(in_training) == section.deep_supervision


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.kind)
def test_shapes_are_those_that_the_network_gives(section: ModelSection) -> None:
    found = trace(section, 5, (60, 90))
    assert found.stages[-1].output == (5, *found.output_size)
    with torch.device("meta"):
        logits_BKHW = build_model(section, 5).eval()(torch.empty(1, 3, *found.input_size))
    assert logits_BKHW.shape == (1, 5, *found.output_size)
    assert min(size - wanted for size, wanted in zip(found.output_size, (60, 90), strict=True)) >= 0


def test_the_published_network_is_traced_at_its_own_sizes() -> None:
    found = trace(ModelSection(kind="unet_valid", width=64), 2, (388, 388))
    assert (found.input_size, found.output_size) == ((572, 572), (388, 388))
    assert [stage.output for stage in found.stages if stage.path == "up"] == [
        (512, 56, 56), (256, 104, 104), (128, 200, 200), (64, 392, 392)
    ]  # fmt: skip


def test_the_table_has_a_line_for_each_stage_and_sums() -> None:
    found = trace(ModelSection(width=4, depth=1), 3, (4, 6))
    lines = table(found)
    assert [line.split()[0] for line in lines] == [
        "stage",
        "image",
        "down.0",
        "down.1",
        "up.0",
        "merge.0",
        "head",
        "all",
    ]
    assert lines[2].split() == ["down.0", "0", "4", "x", "4", "x", "6", "268", "0.252"]
    assert lines[-1].split() == ["all", f"{found.parameters:,}", f"{found.macs / 24e3:.3f}"]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.kind)
def test_a_run_draws_the_network_and_writes_its_numbers(
    section: ModelSection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = Config(
        run=RunSection(storage=str(tmp_path)), data=DataSection(layout="camvid", root="/none"), model=section
    )
    result = run(config)
    assert result.drawing == f"{tmp_path}/run/model/model_arch.png"
    assert result.num_classes == 11
    image = cv2.imread(result.drawing)
    assert image.shape[1] > 600
    assert 0.5 < (image == 255).mean() < 0.99
    svg = ElementTree.parse(tmp_path / "run/model/model_arch.svg")
    words = [element.text for element in svg.iter() if element.tag.endswith("}text")]
    found = trace(section, 11, (360, 480))
    for stage in found.stages:
        if stage.output is not None:
            assert str(stage.output[0]) in words
            assert f"{stage.output[1]} \N{MULTIPLICATION SIGN} {stage.output[2]}" in words
    assert json.loads((tmp_path / "run/model/model.json").read_text())["macs"] == found.macs
    shown = capsys.readouterr().err.splitlines()
    assert shown[: len(table(found))] == table(found)
    assert shown[-1] == f"model: {result.drawing}"


def test_drawings_of_one_network_are_the_same_to_the_byte(tmp_path: Path) -> None:
    for name in ("a", "b"):
        run(Config(run=RunSection(storage=f"{tmp_path}/{name}"), data=DataSection(layout="camvid"), model=SECTIONS[1]))
    for file in ("model_arch.png", "model_arch.svg", "model.json"):
        assert (tmp_path / "a/run/model" / file).read_bytes() == (tmp_path / "b/run/model" / file).read_bytes()


def test_the_classes_are_those_of_the_dataset_if_there_is_one(dataset_uri: str, tmp_path: Path) -> None:
    overrides = {"run.storage": str(tmp_path), "model.depth": "1", "augment.crop": "[16, 24]"}
    assert run(parse_config({}, overrides | {"data.dataset": dataset_uri}, "x")).num_classes == 3
    clusters = overrides | {"labels.scheme": "kmeans", "labels.clusters": "7"}
    result = run(parse_config({}, clusters, "x"))
    assert (result.num_classes, result.input_size) == (7, (16, 24))
    with pytest.raises(ConfigError, match="labels"):
        run(parse_config({}, overrides, "x"))
