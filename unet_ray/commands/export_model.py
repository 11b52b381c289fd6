"""``unet-ray export-model``."""

import dataclasses
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from unet_ray.commands.command import Command, Parser, place


def _arguments(parser: Parser) -> None:
    parser.add_argument("checkpoint", help="URI of a checkpoint, or of a train folder, whose best one is taken")
    parser.add_argument("file", help="URI of the file to write; .onnx is ONNX, .pt2 a program of torch.export")


def _work(options: Namespace) -> Mapping[str, Any]:
    from unet_ray.model_export import run

    return dataclasses.asdict(run(place(options.checkpoint), place(options.file)))


EXPORT_MODEL = Command(
    name="export-model",
    purpose="a checkpoint in, its network as a file that runs without unet-ray out",
    example="runs/camvid/train camvid.onnx",
    arguments=_arguments,
    work=_work,
)
