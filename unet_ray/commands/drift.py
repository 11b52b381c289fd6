"""``unet-ray drift``."""

import dataclasses
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from unet_ray.commands.command import GATE, Command, Parser, place


def _arguments(parser: Parser) -> None:
    parser.add_argument("uri", help="URI of a table of predictions")
    known = "URI of another by the same checkpoint, of known frames [those that the checkpoint was validated on]"
    parser.add_argument("reference", nargs="?", help=known)
    at_most = f"exit with {GATE} where a number of all frames has shifted more, and not by chance"
    parser.add_argument("--at-most", type=float, metavar="INDEX", help=at_most)


def _work(options: Namespace) -> Mapping[str, Any]:
    from unet_ray.drift import run

    known = None if options.reference is None else place(options.reference)
    return dataclasses.asdict(run(place(options.uri), known))


def _gate(options: Namespace, result: Mapping[str, Any]) -> int:
    return 0 if options.at_most is None or result["largest"] <= options.at_most else GATE


DRIFT = Command(
    name="drift",
    purpose="predictions in, how far their frames have shifted from known ones out",
    example="runs/tonight/predictions --at-most 0.25",
    arguments=_arguments,
    work=_work,
    gate=_gate,
)
