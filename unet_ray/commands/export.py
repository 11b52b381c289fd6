"""``unet-ray export``."""

import dataclasses
from argparse import Namespace
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from unet_ray.commands.command import Command, Parser, place


def _arguments(parser: Parser) -> None:
    parser.add_argument("uri", help="URI of a table of predictions")
    parser.add_argument("folder", help="URI of the folder to write")
    kinds = ("index", "palette", "overlay")
    parser.add_argument("--as", dest="kind", choices=kinds, default="index", help="what the files show [index]")
    parser.add_argument("--where", metavar="SQL", help="condition on the columns of frames, such as miou < 0.5")


def _work(options: Namespace) -> Mapping[str, Any]:
    from unet_ray import runtime

    uris = place(options.uri), place(options.folder)
    with runtime.connected(meanwhile=lambda: import_module("unet_ray.export")):
        return dataclasses.asdict(import_module("unet_ray.export").run(*uris, options.kind, options.where))


EXPORT = Command(
    name="export",
    purpose="predictions in, a picture file for each mask out",
    example='runs/camvid/predictions masks --as overlay --where "miou < 0.5"',
    arguments=_arguments,
    work=_work,
)
