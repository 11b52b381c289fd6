"""``unet-ray doctor``."""

import dataclasses
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from unet_ray.commands.command import Command, Parser
from unet_ray.commands.stage import settle

_PROBLEM = 2


def _arguments(parser: Parser) -> None:
    config = "YAML file of an experiment, whose inputs and outputs are then tried"
    parser.add_argument("config", metavar="CONFIG", nargs="?", help=config)


def _work(options: Namespace) -> Mapping[str, Any]:
    from unet_ray.config_file import load_config
    from unet_ray.doctor.run import run

    config = None if options.config is None else settle(load_config(options.config))
    return dataclasses.asdict(run(config))


def _gate(options: Namespace, result: Mapping[str, Any]) -> int:
    return _PROBLEM if result["problems"] else 0


DOCTOR = Command(
    name="doctor",
    purpose="the environment in, what would stop or slow a job out, and what to do about it",
    example="my.yaml",
    arguments=_arguments,
    work=_work,
    gate=_gate,
)
