"""What a job reads, writes and connects to: inputs, outputs, the store, the cluster."""

import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

from unet_ray import access, runtime, s3, storage
from unet_ray.config import INPUTS, OUTPUTS, Config
from unet_ray.doctor.finding import Finding, ok, problem, warning
from unet_ray.doctor.machine import check_disk
from unet_ray.errors import NotFoundError, UnetRayError

_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_CREDENTIALS = (
    *_KEYS, "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)  # fmt: skip
_ANSWER_S = 10.0
_SKEW_S = 15 * 60  # from which on S3 refuses requests
_ODD_SKEW_S = 60


def check_places(config: Config) -> Iterator[Finding]:
    """Yield what is found of the inputs and outputs of a configuration with absolute paths, and of their store."""
    inputs, outputs = dict(config.places(INPUTS)), dict(config.places(OUTPUTS))
    outputs["run.storage"] = config.run_uri
    if any(map(storage.is_remote, [*inputs.values(), *outputs.values()])):
        yield _check_credentials(os.environ)
        yield from _check_clock()
    for key, place in inputs.items():
        yield _check_input(key, place)
    for key, place in outputs.items():
        yield _check_output(key, place, exclusive=not config.run.single_writer)


def check_cluster(environment: Mapping[str, str]) -> Finding:
    """Return what is found of the cluster that jobs would run on."""
    address = environment.get("RAY_ADDRESS", "")
    try:
        if address in ("", "local"):
            access.make_token(environment)
            return ok("cluster", "RAY_ADDRESS names none: Ray will be started on this machine")
        with runtime.connected():
            return ok("cluster", f"{address}: {runtime.describe_cluster()}")
    except UnetRayError as error:
        return problem("cluster", str(error))


def _check_credentials(environment: Mapping[str, str]) -> Finding:
    """Tell which are there, by name alone."""
    there = [name for name in _CREDENTIALS if environment.get(name)]
    missing = [name for name in _KEYS if name not in there]
    if len(missing) == 1:
        return problem("credentials", f"{missing[0]} is not set, its other half is", "set both")
    if not there and not any(Path.home().joinpath(".aws", name).exists() for name in ("credentials", "config")):
        return warning("credentials", "none by name", "set AWS_*, unless a role of this machine has them")
    return ok("credentials", ", ".join(there) or "~/.aws")


def _check_clock() -> Iterator[Finding]:
    """Yield how far the clock of the store is from ours; nothing where the store does not tell."""
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    try:
        parts = urlsplit(s3.endpoint() or f"https://s3.{region}.amazonaws.com")
        url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_ANSWER_S) as answer:
            told = answer.headers["Date"]
    except urllib.error.HTTPError as refusal:
        told = refusal.headers["Date"]
    except (OSError, ValueError, UnetRayError):
        return  # the inputs tell why
    if told is None:
        return
    skew = abs(time.time() - parsedate_to_datetime(told).timestamp())
    found = f"{skew:.0f} s from the store's"
    if skew >= _SKEW_S:
        yield problem("clock", f"{found}, which refuses more than {_SKEW_S // 60} minutes", "set it, with NTP")
    else:
        yield warning("clock", found, "set it, with NTP") if skew >= _ODD_SKEW_S else ok("clock", found)


def _check_input(key: str, place: str) -> Finding:
    try:
        if _holds_something(place):
            return ok(key, f"{place} can be read")
    except UnetRayError as error:
        return problem(key, str(error))
    return problem(key, f"there is nothing at {place}", "check it, or run the stage that makes it")


def _holds_something(place: str) -> bool:
    """Tell whether a place is a folder with objects in it, or an object."""
    try:
        if next(storage.list_objects(place), None):
            return True
    except NotFoundError:
        if storage.is_remote(place):
            raise
    is_bucket = storage.is_remote(place) and place.rstrip("/").count("/") == 2
    return not is_bucket and storage.exists(place.rstrip("/"))


def _check_output(key: str, place: str, *, exclusive: bool) -> Finding:
    try:
        storage.check_output(place, exclusive=exclusive)
    except UnetRayError as error:
        return problem(key, str(error))
    return ok(key, f"{place} can be written") if storage.is_remote(place) else check_disk(key, Path(place))
