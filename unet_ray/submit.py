"""``unet-ray submit``: a stage as a job of a cluster, with the code that is here; its log and its result come back.

Runs on a machine that reaches the cluster's dashboard, without connecting to Ray.
"""

import asyncio
import contextlib
import importlib.util
import logging
import re
import secrets
import shlex
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unet_ray import access, storage
from unet_ray.config import INPUTS, OUTPUTS, Config
from unet_ray.errors import ConfigError, ResourceError
from unet_ray.logs import as_record, relay

logger = logging.getLogger(__name__)

_DEFAULT_PORT = 8265
_STOP_S = 60  # of a job that is told to stop, until it is killed; ours end within 18
_ANSWER_S = 10.0
_POLL_S = 1.0
_FIX = "check --address, or open a way to it: ray dashboard CLUSTER.yaml, or kubectl port-forward SERVICE 8265"
_SECRET = re.compile(r"secret|passw|token|credential|(^|_)key(_|$)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What a cluster is to run: a stage, the path of its configuration here, flags, and environment variables.

    ``modules`` are the user's own that it needs (`own_modules`).
    """

    name: str
    stage: str
    config_file: str
    flags: Sequence[str]
    variables: Mapping[str, str]
    modules: Sequence[Path] = ()


@dataclass(frozen=True, kw_only=True)
class SubmitResult:
    """What became of a job: its exit code and its own result, None where it was not waited for or has none."""

    job: str
    address: str
    exit_code: int | None
    result: Mapping[str, Any] | None


def new_name(stage: str) -> str:
    """Return a name for a job that no other has."""
    return f"{stage}-{secrets.token_hex(4)}"


def pick_variables(names: Sequence[str], environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a job is to have.

    Raises:
        ConfigError: One is not set here, or is a secret by its name: what a job is given can be read by all who may
            look at the cluster.
    """
    for name in names:
        if _SECRET.search(name):
            raise ConfigError(
                f"--env: {name} looks like a secret, and everyone who sees the cluster sees what a job was given; set "
                "it where the nodes start, or give them a role"
            )
        if name not in environment:
            raise ConfigError(f"--env: {name} is not set here; export it, or leave it out")
    return {name: environment[name] for name in names}


def own_modules(config: Config) -> list[Path]:
    """Return the files and folders of the modules whose functions are layouts; a folder is a whole package.

    Raises:
        ConfigError: One is not found here.
    """
    found = {}
    for key, layout in (("data.layout", config.data.layout), ("predict.layout", config.predict.layout)):
        module, separator, _ = (layout or "").partition(":")
        if not separator:
            continue
        package = module.partition(".")[0]
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise ConfigError(
                f"{key}: there is no module {package} here to send; run this where it is, or set PYTHONPATH"
            )
        path = Path(spec.origin)
        found[package] = path.parent if path.name == "__init__.py" else path
    return [*found.values()]


def check_places(config: Config, keys: Sequence[str] = (*INPUTS, *OUTPUTS)) -> None:
    """Refuse relative paths, which a cluster would look for in a copy of this code, and write to it.

    Args:
        config: The experiment.
        keys: Options to look at.

    Raises:
        ConfigError: There is one, by its name.
    """
    for key, place in config.places(keys):
        if storage.absolute(place) == place or place.startswith("file:"):
            continue
        raise ConfigError(
            f"{key}: {place} is a place on one machine, or in a copy of the code that goes with the job; a job on a "
            "cluster needs an s3:// URI, or an absolute path that all nodes share"
        )


def run(address: str, job: Job, environment: MutableMapping[str, str], *, wait: bool) -> SubmitResult:
    """Send this package and a configuration to a cluster and run a stage there; its log comes to standard error.

    Args:
        address: URL of the dashboard.
        job: What to run.
        environment: The process's own; ``RAY_AUTH_MODE`` is set where there is a token, and the address.
        wait: Follow the job to its end.

    Raises:
        ResourceError: Nothing answers at the address, or it is no Ray, or of another version; the token is wrong; the
            job could not be started; the connection was lost, in which case the job goes on.
    """
    address = address.rstrip("/") if "://" in address else f"http://{address}"
    access.use_token(environment)
    access.check_reachable("--address", address, _DEFAULT_PORT, environment, _FIX)
    name = job.name
    with _explained(address):
        client = _connect(address, environment)
        with tempfile.TemporaryDirectory() as folder:
            command = ["python", "-m", __package__, job.stage, _pack(Path(folder), job), *job.flags]
            client.submit_job(
                entrypoint=shlex.join(command),
                submission_id=name,
                metadata={"stage": job.stage},
                runtime_env={
                    "working_dir": folder,
                    "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(_STOP_S), **job.variables},
                },
            )
    logger.info("job %s at %s; to stop it: ray job stop %s --address %s", name, address, name, address)
    if not wait:
        return SubmitResult(job=name, address=address, exit_code=None, result=None)
    with _explained(address, f"; {name} goes on without us: ray job logs --follow {name} --address {address}"):
        result = asyncio.run(_follow(client, name))
        info = _wait_for_end(client, name)
    if info.status == "STOPPED":
        return SubmitResult(job=name, address=address, exit_code=143, result=None)
    if info.status == "FAILED" and info.driver_exit_code is None:
        raise ResourceError(f"{name}: the cluster could not run it: {info.message}")
    return SubmitResult(job=name, address=address, exit_code=info.driver_exit_code or 0, result=result)


def _pack(folder: Path, job: Job) -> str:
    """Put this package, modules and the configuration into a folder and return the name of the latter there."""
    name = "config.yaml"
    for module in (Path(__file__).parent, *job.modules):
        if module.is_dir():
            shutil.copytree(module, folder / module.name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(module, folder)
    shutil.copy(job.config_file, folder / name)
    return name


def _connect(address: str, environment: MutableMapping[str, str]) -> Any:
    import ray
    import requests
    from ray.job_submission import JobSubmissionClient

    answer = requests.get(f"{address}/api/version", timeout=_ANSWER_S)  # the client's own would wait for ever
    if answer.status_code not in (401, 403):
        answer.raise_for_status()
    for noisy in ("ray", "ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    environment["RAY_API_SERVER_ADDRESS"] = address  # would win over the address that the client is given
    client = JobSubmissionClient(address)
    there = client._do_request("GET", "/api/version").json()["ray_version"]
    if there != ray.__version__:
        raise ResourceError(
            f"--address: the cluster at {address} runs Ray {there}, here is {ray.__version__}; install the same here, "
            "or start the cluster from this version's image"
        )
    return client


@contextlib.contextmanager
def _explained(address: str, otherwise: str = "") -> Iterator[None]:
    """Turn what Ray's client raises into errors of ours."""
    import aiohttp
    import requests
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError as error:
        found = "asks for a token, and there is none here" if "Missing" in str(error) else "has another token than ours"
        raise ResourceError(
            f"--address: the cluster at {address} {found}; put the token that it was started with in ~/.ray/auth_token"
        ) from None
    except (requests.RequestException, aiohttp.ClientError, ConnectionError, KeyError, ValueError) as error:
        raise ResourceError(
            f"--address: no Ray dashboard answers at {address}: {error}{otherwise or f'; {_FIX}'}"
        ) from None
    except RuntimeError as error:
        raise ResourceError(f"--address: {address}: {error}{otherwise}") from None


async def _follow(client: Any, name: str) -> Mapping[str, Any] | None:
    """Copy the log of a job to standard error and return its result, the JSON line that is no log line."""
    result = None
    async for line in _lines(client.tail_job_logs(name)):
        record = as_record(line)
        if record is not None and "level" not in record:
            result = record
        else:
            relay(line)
    return result


async def _lines(chunks: AsyncIterator[str]) -> AsyncIterator[str]:
    """Yield whole lines of a text that comes in pieces."""
    rest = ""
    async for chunk in chunks:
        *whole, rest = (rest + chunk).split("\n")
        for line in whole:
            yield line
    if rest:
        yield rest


def _wait_for_end(client: Any, name: str) -> Any:
    while not (info := client.get_job_info(name)).status.is_terminal():
        time.sleep(_POLL_S)
    return info
