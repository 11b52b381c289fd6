"""Reading a configuration: strict YAML, overridden by flags, errors in one line; and writing it back.

Precedence: defaults < YAML < flags. Importing this module loads neither pydantic nor yaml, which keeps ``--help``
instant.
"""

import ast
import dataclasses
import difflib
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from unet_ray.config import Config
from unet_ray.errors import ConfigError


def sections() -> Iterator[tuple[str, type]]:
    """Yield each section's name and class, in the order they are declared."""
    for item in dataclasses.fields(Config):
        assert isinstance(item.type, type)
        yield item.name, item.type


def option_fields() -> Iterator[tuple[str, "dataclasses.Field[Any]"]]:
    """Yield each option as its dotted key and its dataclass field."""
    for section, cls in sections():
        for item in dataclasses.fields(cls):
            yield f"{section}.{item.name}", item


def leaves() -> Iterator[tuple[str, "dataclasses.Field[Any]", str]]:
    """Yield each option with its help text, which is read from the source and takes a moment."""
    docs = {section: _field_docs(cls) for section, cls in sections()}
    for key, item in option_fields():
        yield key, item, docs[key.partition(".")[0]][item.name]


@cache
def _field_docs(cls: type) -> Mapping[str, str]:
    """Return the string literal under each field: the one place a field is described."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(tree, ast.ClassDef)
    docs: dict[str, str] = {}
    for statement, following in zip(tree.body, tree.body[1:], strict=False):
        match statement, following:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(doc))):
                docs[name] = doc
    return docs


def parse_config(document: Mapping[str, Any], overrides: Mapping[str, str], source: str) -> Config:
    """Validate a nested document with dotted overrides on top.

    Args:
        document: Sections by name, as a YAML file holds them.
        overrides: Dotted key (``optim.lr``) to the value as typed: read as YAML, but text where the option is text.
        source: What to call the document in an error, usually the file's name.

    Raises:
        ConfigError: In one line that names the key as the user typed it.
    """
    from pydantic import TypeAdapter, ValidationError

    from unet_ray.strict_yaml import parse_yaml

    merged: dict[str, Any] = {}
    known = dict(sections())
    for section, values in document.items():
        if section not in known:
            raise ConfigError(f"{source}: {section}: no such key{nearest(str(section))}")
        if values is not None and not isinstance(values, Mapping):
            kind = type(values).__name__
            raise ConfigError(f"{source}: {section}: must be a section of key: value lines, got a value ({kind})")
        merged[section] = dict(values or {})
    texts = {key for key, item in option_fields() if item.type in (str, str | None)}
    for key, typed in overrides.items():
        section, _, name = key.partition(".")
        try:
            value = typed if key in texts and typed != "null" else parse_yaml(typed)
        except ValueError:
            raise ConfigError(f"--{key}: not a YAML value: {typed!r}") from None
        merged.setdefault(section, {})[name] = value
    try:
        return TypeAdapter(Config).validate_python(merged)
    except ValidationError as error:
        first = error.errors()[0]
        key = _dotted(first["loc"])
        if first["type"] == "unexpected_keyword_argument":
            message = f"{key}: no such key{nearest(key)}"
        elif first["type"] == "missing":
            message = f"{key}: too few values, got {first['input']!r}"
        else:
            rule = first["msg"].replace("tuple", "list").replace("Tuple", "List")
            message = f"{key}: {rule[0].lower()}{rule[1:]}, got {first['input']!r}"
    except ConfigError as error:
        message = str(error)
    key = message.partition(":")[0]
    raise ConfigError(f"--{message}" if key in overrides else f"{source}: {message}")


def load_config(path: str, overrides: Mapping[str, str] | None = None) -> Config:
    """Read one YAML file and apply overrides (see `parse_config`).

    Raises:
        ConfigError: The file is missing, is not YAML, or does not validate.
    """
    from unet_ray.strict_yaml import MOST_BYTES, parse_yaml

    try:
        with Path(path).open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot read this configuration file: {error}") from error
    if len(data) > MOST_BYTES:
        raise ConfigError(f"{path}: larger than {MOST_BYTES:,} bytes, which no configuration needs; check the path")
    try:
        document = parse_yaml(data.decode("utf-8-sig")) or {}
    except ValueError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(document, Mapping):
        raise ConfigError(f"{path}: must hold sections such as data: and train:, got {type(document).__name__}")
    return parse_config(document, overrides or {}, source=path)


def dump_config(config: Config) -> str:
    """Return the resolved configuration as YAML that `load_config` reads back to an equal `Config`."""
    import yaml

    return yaml.safe_dump(plain_values(dataclasses.asdict(config)), sort_keys=False)


def plain_values(value: Any) -> Any:
    """Return what ``dataclasses.asdict`` gives as values that YAML and JSON hold: lists, not tuples."""
    if isinstance(value, dict):
        return {key: plain_values(item) for key, item in value.items()}
    return [plain_values(item) for item in value] if isinstance(value, tuple) else value


def _dotted(location: Sequence[int | str]) -> str:
    """Return ``section.key`` of a pydantic location, without what it appends for unions and tuples."""
    return ".".join(str(part) for part in location[:2])


def nearest(key: str, prefix: str = "") -> str:
    """Return a hint at the key that was probably meant, or nothing."""
    if re.search("aws|secret|password|token|credential", key, re.IGNORECASE):
        return "; credentials come from the environment (AWS_*), never from a configuration"
    meant = {name: name for name, _ in option_fields()}
    if "." not in key:
        meant = {name.partition(".")[2]: name for name in reversed(meant)}
        if not prefix:
            meant |= {name: name for name, _ in sections()}
    close = difflib.get_close_matches(key, meant, n=1, cutoff=0.6)
    return f"; did you mean {prefix}{meant[close[0]]}?" if close else ""
