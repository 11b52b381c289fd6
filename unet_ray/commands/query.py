"""``unet-ray query``."""

import dataclasses
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from unet_ray.commands.command import Command, Parser, place


def _arguments(parser: Parser) -> None:
    parser.add_argument("uri", help="URI of a dataset or predictions table")
    parser.add_argument("sql", help="SELECT over frames, classes, by_group, quarantine, or rows, the table itself")


def _work(options: Namespace) -> Mapping[str, Any]:
    from unet_ray.query.run import run

    return dataclasses.asdict(run(place(options.uri), options.sql))


QUERY = Command(
    name="query",
    purpose="a table and SQL in, rows out",
    example='runs/camvid/predictions "SELECT name, iou FROM classes"',
    arguments=_arguments,
    work=_work,
)
