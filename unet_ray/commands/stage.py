"""What the stages have in common: a YAML of an experiment, a flag for each of its options, and a connection to Ray."""

import dataclasses
import os
from argparse import SUPPRESS, Action, ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import Any, Literal, get_args, get_origin

from unet_ray.access import is_submitted
from unet_ray.commands.command import Command, Parser
from unet_ray.config import INPUTS, OUTPUTS, Config
from unet_ray.config_file import leaves, load_config, nearest, option_fields, sections
from unet_ray.config_training import ClassWeights
from unet_ray.errors import ConfigError

_USAGE = "CONFIG [--section.key VALUE ...]"
_ALL = "all"


def declare_stage(
    name: str,
    purpose: str,
    module: str,
    looks_at: str,
    *,
    flags: str = "",
    outputs: Callable[[Config], Sequence[str]] | None = None,
) -> Command:
    """Declare a stage.

    Args:
        name: The command.
        purpose: What goes in and what comes out.
        module: Whose ``run(config)`` does it.
        looks_at: Sections of the configuration, those that the help names.
        flags: Of the example.
        outputs: Gives the folders that must take objects before Ray is started; None for what runs without Ray.
    """
    return Command(
        name=name,
        purpose=purpose,
        example=f"my.yaml {flags}".rstrip(),
        usage=_USAGE,
        arguments=partial(_arguments, looks_at.split()),
        work=lambda options: _run(module, outputs, settle(read_config(options))),
    )


def read_config(options: Namespace) -> Config:
    """Return what the file and the flags of a command line say.

    Raises:
        ConfigError: The file cannot be read, or one of them is wrong.
    """
    return load_config(options.config, typed_flags(options))


def typed_flags(options: Namespace) -> dict[str, str]:
    """Return what was typed on top of the file, by dotted key, as YAML."""
    typed = vars(options)
    return {key: _as_yaml(typed[key], item.type) for key, item in option_fields() if typed[key] is not None}


def settle(config: Config) -> Config:
    """Return a configuration with absolute local paths: workers have other working directories.

    Raises:
        ConfigError: A submitted job would write into its copy of the code.
    """
    from unet_ray import storage

    if is_submitted(os.environ):
        from unet_ray import submit

        submit.check_places(config, OUTPUTS)
    changes: dict[str, dict[str, str]] = {}
    for key, place in config.places((*INPUTS, *OUTPUTS)):
        section, _, name = key.partition(".")
        changes.setdefault(section, {})[name] = storage.absolute(place)
    settled = {section: dataclasses.replace(getattr(config, section), **found) for section, found in changes.items()}
    return dataclasses.replace(config, **settled)


def _arguments(looks_at: Sequence[str], parser: Parser) -> None:
    """Declare the file and a flag for every option, which the help leaves out until it is asked for a section."""
    parser.hint = lambda option: nearest(option.lstrip("-"), prefix="--")
    parser.add_argument("config", metavar="CONFIG", help="YAML file of the experiment; flags override it")
    asked = f"show the options of a section as well, or of {_ALL}"
    parser.add_argument("--help", action=_Help, nargs="?", metavar="SECTION", help=asked)
    about = {name: (cls.__doc__ or "").partition(". ")[0].rstrip(".") for name, cls in sections()}
    listed = "\n".join(f"{name:10}{about[name]}" for name in looks_at)
    parser.add_argument_group("sections of the configuration that matter here", listed)
    for key, item in option_fields():
        _add_flag(parser, key, item, SUPPRESS)


def _add_flag(parser: Any, key: str, item: "dataclasses.Field[Any]", about: str) -> None:
    kind = str(item.type)
    parser.add_argument(
        f"--{key}",
        dest=key,
        metavar="|".join(get_args(item.type)) if get_origin(item.type) is Literal else "VALUE",
        nargs="+" if "tuple[" in kind and "dict[" not in kind else None,
        help=about,
    )


class _Help(Action):
    """Shows the help of a stage, and every option of the section that is asked for, with its default."""

    def __call__(self, parser: ArgumentParser, _: Namespace, asked: Any, option_string: str | None = None) -> None:
        known = dict(sections())
        if asked not in (None, _ALL, *known):
            raise ConfigError(f"--help: {asked}: no such section; take one of {', '.join(known)}, or {_ALL}")
        groups = {
            name: parser.add_argument_group(name, cls.__doc__) for name, cls in known.items() if asked in (name, _ALL)
        }
        for key, item, doc in leaves() if groups else ():
            if group := groups.get(key.partition(".")[0]):
                _add_flag(group, key, item, f"{doc} [{_shown(item.default)}]".replace("%", "%%"))
        parser.print_help()
        parser.exit()


def _shown(default: Any) -> str:
    if default is None:
        return "null"
    return " ".join(map(str, default)) if isinstance(default, tuple) else str(default)


def _as_yaml(value: str | list[str], kind: Any) -> str:
    """Return a flag's value as YAML: the words of an option that takes several are a list, unless one is the whole."""
    if isinstance(value, str):
        return value
    whole = value[0].startswith("[") or value[0] in ("null", *get_args(ClassWeights)) or int in get_args(kind)
    return value[0] if len(value) == 1 and whole else f"[{', '.join(value)}]"


def _run(module: str, outputs: Callable[[Config], Sequence[str]] | None, config: Config) -> Mapping[str, Any]:
    if outputs is None:
        return dataclasses.asdict(import_module(module).run(config))
    from unet_ray import runtime, storage

    for uri in outputs(config):
        storage.check_output(uri, exclusive=not config.run.single_writer)
    with runtime.connected(meanwhile=lambda: import_module(module)):
        return dataclasses.asdict(import_module(module).run(config))
