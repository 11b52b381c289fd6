"""``unet-ray pick``."""

import dataclasses
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from unet_ray.commands.command import Command, Parser, place


def _arguments(parser: Parser) -> None:
    parser.add_argument("uri", help="URI of a table of predictions")
    parser.add_argument("output", help="URI of the CSV to write, a list as data.layout: list takes it")
    parser.add_argument("--count", type=int, default=100, help="how many frames to pick [100]")
    parser.add_argument("--gap", type=int, default=10, help="frames of a sequence as near as this show the same [10]")


def _work(options: Namespace) -> Mapping[str, Any]:
    from unet_ray.pick import run

    return dataclasses.asdict(run(place(options.uri), place(options.output), options.count, options.gap))


PICK = Command(
    name="pick",
    purpose="predictions in, a list of the frames to label first out",
    example="runs/camvid/predictions next.csv --count 200",
    arguments=_arguments,
    work=_work,
)
