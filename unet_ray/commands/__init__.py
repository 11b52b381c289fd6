"""The commands of ``unet-ray``: a module declares each (`command.Command`), and is named here."""

from collections.abc import Mapping

from unet_ray.commands.command import Command
from unet_ray.commands.compare import COMPARE
from unet_ray.commands.completion import COMPLETION
from unet_ray.commands.doctor import DOCTOR
from unet_ray.commands.drift import DRIFT
from unet_ray.commands.export import EXPORT
from unet_ray.commands.export_model import EXPORT_MODEL
from unet_ray.commands.pick import PICK
from unet_ray.commands.query import QUERY
from unet_ray.commands.stages import STAGES
from unet_ray.commands.submit import SUBMIT
from unet_ray.commands.verify import VERIFY

_TOOLS = (SUBMIT, VERIFY, COMPARE, DRIFT, PICK, EXPORT, EXPORT_MODEL, QUERY, DOCTOR, COMPLETION)

COMMANDS: Mapping[str, Command] = {**STAGES, **{tool.name: tool for tool in _TOOLS}}
"""By name, in the order of the help."""
