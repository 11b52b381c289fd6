"""``unet-ray submit``."""

import argparse
import dataclasses
import os
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from unet_ray.commands.command import Command, Parser
from unet_ray.commands.stage import read_config, typed_flags
from unet_ray.commands.stages import STAGES
from unet_ray.signals import stoppable

_DASHBOARD = "http://127.0.0.1:8265"


def _arguments(parser: Parser) -> None:
    address = f"of the cluster's dashboard [$RAY_API_SERVER_ADDRESS, {_DASHBOARD}]"
    parser.add_argument("--address", metavar="URL", help=address)
    variable = "a variable of here that the job is to have; repeatable"
    parser.add_argument("--env", metavar="NAME", action="append", default=[], help=variable)
    parser.add_argument("--no-wait", action="store_true", help="do not follow the job")
    parser.add_argument("stage", metavar="STAGE", choices=[*STAGES], help=", ".join(STAGES))
    parser.add_argument("command", metavar="CONFIG ...", nargs=argparse.REMAINDER, help="as in unet-ray STAGE")


def _work(options: Namespace) -> Mapping[str, Any]:
    """Say what is wrong with the command or the configuration before anything is sent."""
    typed = STAGES[options.stage].parser().parse(options.command)
    config = read_config(typed)
    from unet_ray import submit

    submit.check_places(config)
    flags = [f"--{key}={value}" for key, value in typed_flags(typed).items()]
    job = submit.Job(
        name=submit.new_name(options.stage),
        stage=options.stage,
        config_file=typed.config,
        flags=[*flags, "--debug"] if typed.debug else flags,
        variables=submit.pick_variables(options.env, os.environ),
        modules=submit.own_modules(config),
    )
    address = options.address or os.environ.get("RAY_API_SERVER_ADDRESS") or _DASHBOARD
    follow = f"ray job logs --follow {job.name} --address {address} (the job runs on)"
    return stoppable(lambda: dataclasses.asdict(submit.run(address, job, os.environ, wait=not options.no_wait)), follow)


def _gate(options: Namespace, result: Mapping[str, Any]) -> int:
    code: int | None = result["exit_code"]
    return code or 0


SUBMIT = Command(
    name="submit",
    purpose="a stage as a job of a cluster, followed to its end",
    example="--address http://127.0.0.1:8265 train my.yaml --scaling.num_workers 4",
    usage="[--address URL] [--env NAME] [--no-wait] STAGE CONFIG ...",
    arguments=_arguments,
    work=_work,
    gate=_gate,
)
