"""What a section of the configuration is made with: frozen, keyword-only, checked, and free of secrets."""

import re
from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

from unet_ray.errors import ConfigError

_T = TypeVar("_T")


@dataclass_transform(kw_only_default=True, frozen_default=True)
def section(cls: type[_T]) -> type[_T]:
    """Make a class a section: a frozen dataclass that takes no unknown key and no number that is none."""
    cls.__pydantic_config__ = {"extra": "forbid", "allow_inf_nan": False}  # type: ignore[attr-defined]
    return dataclass(frozen=True, kw_only=True)(cls)


def require(ok: bool, key: str, rule: str, found: object) -> None:
    """Raise ConfigError, naming the key as the user types it, unless ``ok``."""
    if not ok:
        raise ConfigError(f"{key}: must be {rule}, got {found!r}")


_SECRET = re.compile(r"^[a-z0-9+.-]+://[^/]*@|[?&](X-Amz-|AWSAccessKeyId=|Signature=|sig=)", re.IGNORECASE)


def carries_secret(uri: str) -> bool:
    """Tell whether a URI holds a user and password, or the signature of a presigned one."""
    return _SECRET.search(uri) is not None


def require_no_secret(name: str, **uris: str | None) -> None:
    """Raise ConfigError, without repeating the secret, when a URI of a section carries one."""
    for key, uri in uris.items():
        if uri is not None and carries_secret(uri):
            raise ConfigError(
                f"{name}.{key}: holds a password or a signature, which would be stored with the results; "
                "credentials come from the environment (AWS_*)"
            )
