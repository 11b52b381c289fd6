"""Who may reach the Ray cluster: whoever can, runs code on it, so a token guards every cluster we start or join."""

import contextlib
import ipaddress
import os
import secrets
import socket
import tempfile
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from urllib.parse import urlsplit

from unet_ray.errors import ResourceError

_SUBMITTED = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # what Ray gives the driver of a submitted job, under this very name
_CLIENT_PORT = 10001
_ANSWER_S = 10.0


def is_submitted(environment: Mapping[str, str]) -> bool:
    """Tell whether this process is the driver of a submitted job."""
    return _SUBMITTED in environment


def check_address(environment: Mapping[str, str]) -> None:
    """Refuse to join a cluster over a network without token authentication, and one that does not answer.

    Three cases need none. A driver that ``ray job submit`` started finds a ``RAY_ADDRESS`` that Ray itself set: it
    runs on a node of that cluster already, past any guard. ``auto`` is the cluster this machine is a node of, where
    Ray turns the token on by itself if it finds one. A loopback address is reached by this machine's processes only.

    Raises:
        ResourceError: The address of ``RAY_ADDRESS`` is another, and ``RAY_AUTH_MODE`` is not ``token``; or nothing
            listens there, which Ray would find out after minutes.
    """
    address = environment.get("RAY_ADDRESS", "")
    if address in ("", "local", "auto") or is_submitted(environment):
        return
    fix = "check the address, or unset RAY_ADDRESS to start Ray on this machine"
    check_reachable("RAY_ADDRESS", address, _CLIENT_PORT, environment, fix)


def check_reachable(name: str, address: str, default_port: int, environment: Mapping[str, str], fix: str) -> None:
    """Refuse an address at which nothing answers, and one on another machine where no token is used.

    Args:
        name: What the user calls the address.
        address: ``host:port``, or a URL.
        default_port: Where the address has none.
        environment: Says whether a token is used.
        fix: What to do where nothing answers.

    Raises:
        ResourceError: As above.
    """
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        host, port = parts.hostname or "", parts.port or default_port
    except ValueError:
        raise ResourceError(f"{name}: must be host:port of a Ray head, got {address!r}") from None
    if not _is_loopback(host) and environment.get("RAY_AUTH_MODE", "").lower() != "token":
        raise ResourceError(
            f"{name}: {host} is another machine, and without a token whoever reaches that cluster runs code on "
            "it; start it with RAY_AUTH_MODE=token, export the same here, and put its token in ~/.ray/auth_token"
        )
    try:
        socket.create_connection((host, port), timeout=_ANSWER_S).close()
    except OSError as error:
        raise ResourceError(f"{name}: no Ray answers at {host}:{port} ({error}); {fix}") from None


def use_token(environment: MutableMapping[str, str]) -> None:
    """Have Ray use the token that there is, unless the environment says how to get in."""
    if "RAY_AUTH_MODE" not in environment and (environment.get("RAY_AUTH_TOKEN") or _token_path(environment).exists()):
        environment["RAY_AUTH_MODE"] = "token"


def make_token(environment: Mapping[str, str]) -> None:
    """Make the token of the clusters this user starts, unless there is one; only its owner may read it.

    Ray 2.60 would make it on its own, readable by everyone.

    Raises:
        ResourceError: The place of the token cannot be written.
    """
    if environment.get("RAY_AUTH_TOKEN") or environment.get("RAY_AUTH_MODE", "token").lower() != "token":
        return
    path = _token_path(environment)
    try:
        if not path.exists():
            _create_private(path, secrets.token_hex(32))
        elif path.stat().st_mode & 0o077:
            with contextlib.suppress(OSError):  # another user's, or mounted read-only
                path.chmod(0o600)
    except OSError as error:
        raise ResourceError(
            f"{path}: Ray's token cannot be kept there: {error.strerror}; set HOME or RAY_AUTH_TOKEN_PATH to a place "
            "that can be written"
        ) from None


def _token_path(environment: Mapping[str, str]) -> Path:
    return Path(environment.get("RAY_AUTH_TOKEN_PATH") or f"{environment.get('HOME', '')}/.ray/auth_token")


def _create_private(path: Path, text: str) -> None:
    """Create a file that is whole and private from its first moment, unless another process was faster."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent)  # of mode 0600
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(temporary)
    finally:
        Path(temporary).unlink()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
