"""``unet-ray export``."""

import dataclasses
from argparse import Namespace
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from unet_ray.commands.command import Command, Parser, place
from unet_ray.export import KINDS


def _arguments(parser: Parser) -> None:
    parser.add_argument("uri", help="URI of a table of predictions")
    parser.add_argument("folder", help="URI of the folder to write")
    formats = f"one of {', '.join(KINDS)}; docs/exports.md says what they are [index]"
    parser.add_argument("--as", dest="kind", metavar="FORMAT", choices=KINDS, default="index", help=formats)
    parser.add_argument("--where", metavar="SQL", help="condition on the columns of frames, such as miou < 0.5")
    parser.add_argument("--fps", type=float, default=25.0, help="frames a second of a video [25]")


def _work(options: Namespace) -> Mapping[str, Any]:
    from unet_ray import runtime

    uris = place(options.uri), place(options.folder)
    with runtime.connected(meanwhile=lambda: import_module("unet_ray.export.run")):
        export = import_module("unet_ray.export.run")
        return dataclasses.asdict(export.run(*uris, options.kind, options.where, options.fps))


EXPORT = Command(
    name="export",
    purpose="predictions in, masks as pictures, datasets of other tools or videos out",
    example='runs/camvid/predictions masks --as overlay --where "miou < 0.5"',
    arguments=_arguments,
    work=_work,
)
