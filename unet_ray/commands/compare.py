"""``unet-ray compare``."""

import dataclasses
from argparse import Namespace
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from unet_ray.commands.command import GATE, Command, Parser, place


def _arguments(parser: Parser) -> None:
    parser.add_argument("first", help="URI of a table of predictions")
    parser.add_argument("second", help="URI of another, of the same frames")
    parser.add_argument("--at-least", type=float, metavar="MIOU", help=f"exit with {GATE} where they agree less")


def _work(options: Namespace) -> Mapping[str, Any]:
    from unet_ray import runtime

    uris = place(options.first), place(options.second)
    with runtime.connected(meanwhile=lambda: import_module("unet_ray.compare")):
        return dataclasses.asdict(import_module("unet_ray.compare").run(*uris))


def _gate(options: Namespace, result: Mapping[str, Any]) -> int:
    """Return the exit code of a comparison; what nothing defines is not enough."""
    return 0 if options.at_least is None or (result["miou"] or 0.0) >= options.at_least else GATE


COMPARE = Command(
    name="compare",
    purpose="two predictions of the same frames in, how far they agree and what changed most out",
    example="runs/old/predictions runs/new/predictions --at-least 0.95",
    arguments=_arguments,
    work=_work,
    gate=_gate,
)
