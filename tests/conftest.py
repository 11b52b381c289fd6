"""Fixtures that more than one folder of tests uses."""

import logging
import uuid
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest
from s3fs import S3FileSystem
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests import s3server
from unet_ray import s3
from unet_ray.faults import outlast, translated

pytest.register_assert_rewrite("tests.storage_contract")
pytest_plugins = ["tests.tally"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--exhaustive", action="store_true", help="every fault at every request, not each in turn")


class _RayInTurn(LoadScopeScheduling):
    """Keeps what starts Ray in one process, one test after the other: two clusters at once take longer than in turn.

    Of the other tests, those of a file stay together.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "ray" if file.startswith(("tests/integration/", "tests/cluster/")) else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    return _RayInTurn(config, log)


@pytest.fixture(autouse=True)
def _process_as_it_was() -> Iterator[None]:
    """Undo what a command does to the logging of its process."""
    ours = logging.getLogger("unet_ray")
    handlers, propagate, level = ours.handlers, ours.propagate, ours.level
    yield
    ours.handlers, ours.propagate = handlers, propagate
    ours.setLevel(level)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3server.S3Server]:
    """Run a real S3 server for the session (see `s3server` for which one)."""
    server = s3server.start(tmp_path_factory.mktemp("s3"))
    yield server
    s3server.stop(server)


@pytest.fixture(scope="session")
def s3_environment(s3_server: s3server.S3Server) -> Iterator[dict[str, str]]:
    """Put the server's AWS_* variables in the environment of this process, and return them.

    They stay until the session ends, so that a Ray cluster started after this fixture hands them to its
    workers: a fixture that starts Ray for tests on S3 asks for this one first. The clients follow the
    variables, so a test may change them with ``monkeypatch``.
    """
    variables = {
        "AWS_ENDPOINT_URL": s3_server.endpoint,
        "AWS_ACCESS_KEY_ID": s3_server.access_key,
        "AWS_SECRET_ACCESS_KEY": s3_server.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ALLOW_HTTP": "true",
    }
    with pytest.MonkeyPatch.context() as environment:
        for name in ("AWS_ENDPOINT_URL_S3", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_REGION"):
            environment.delenv(name, raising=False)
        for name, value in variables.items():
            environment.setenv(name, value)
        yield variables


@pytest.fixture
def s3_bucket(s3_environment: dict[str, str]) -> Iterator[str]:
    """Give the URI of a new, empty bucket: "s3://..."."""
    client, bucket = s3.s3fs_client(), f"unet-ray-{uuid.uuid4().hex[:12]}"
    client.call_s3("create_bucket", Bucket=bucket)
    yield f"s3://{bucket}"
    outlast(partial(_remove, client, bucket))


def _remove(client: S3FileSystem, bucket: str) -> None:
    with translated("delete", f"s3://{bucket}"):  # a server that was stopped may need a moment
        client.rm(bucket, recursive=True)


@pytest.fixture
def inline_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run what `pipeline.collect` gives to a cluster here, one item after the other."""
    from unet_ray import pipeline

    def collect(items: Sequence[Any], _: int, stage: Callable[[Any], Any]) -> Iterator[dict[str, Any]]:
        for item in items:
            yield from stage(item).to_pylist()

    monkeypatch.setattr(pipeline, "collect", collect)
