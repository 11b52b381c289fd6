"""The three S3 clients, made from the environment alone.

Endpoint, region and credentials come from the ``AWS_*`` variables, and from the profiles and roles they name.
A client is made once per process, and again when the variables change. None is ever shipped with a task.
Each tries again by itself, and gives up on a store that does not answer after about 30 s.
"""

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from unet_ray.errors import StorageError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, S3Credential, S3Store
    from pyarrow.fs import FileSystem

_LARGE_BYTES = 4 << 20

_Environment = tuple[str | None, ...]


def object_store(bucket: str, *, upload_bytes: int = 0) -> "S3Store":
    """Give the obstore client of a bucket; a large upload gets one with more time."""
    return _object_store(bucket, upload_bytes > _LARGE_BYTES, _environment())


def s3fs_client() -> Any:
    """Give the s3fs client, for listings and for the keys that obstore cannot express."""
    return _s3fs_client(_environment())


def arrow_client() -> "FileSystem":
    """Give the pyarrow file system; it can be pickled, and holds no credentials."""
    return _arrow_client(_environment())


def endpoint() -> str | None:
    """Return the URL of the store where it is not AWS itself.

    Raises:
        StorageError: it has no scheme.
    """
    url = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None
    if url and not url.startswith(("http://", "https://")):
        raise StorageError("AWS_ENDPOINT_URL has no scheme: write http://host:port or https://host:port")
    return url


def _environment() -> _Environment:
    """Return all that a client is made from: the key to find it again."""
    names = ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "PROFILE", "REGION", "DEFAULT_REGION")
    return endpoint(), *(os.environ.get(f"AWS_{name}") for name in names)


def _keep_to_plain_checksums() -> None:
    """Stop the AWS SDKs from sending trailing checksums: other stores refuse multipart uploads with them."""
    if endpoint():
        os.environ.setdefault("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")


@cache
def _object_store(bucket: str, large_upload: bool, environment: _Environment) -> "S3Store":
    from obstore.store import S3Store

    # A read timeout finds a stalled server soon, but also ends every upload that takes longer.
    limits: ClientConfig = {"timeout": "2m"} if large_upload else {"timeout": "5m", "read_timeout": "14s"}
    return S3Store(
        bucket,
        config={"endpoint": environment[0]} if environment[0] else {},
        credential_provider=None if environment[1] else _credential_provider(),
        client_options={"connect_timeout": "5s", "allow_http": True, **limits},
        retry_config={
            "max_retries": 8,
            "retry_timeout": timedelta(seconds=25),
            "backoff": {
                "init_backoff": timedelta(milliseconds=100),
                "max_backoff": timedelta(seconds=3),
                "base": 2,
            },
        },
    )


def _credential_provider() -> "Callable[[], S3Credential]":
    """Let obstore find the profiles and roles that the other two clients find: it knows fewer by itself."""
    from botocore.exceptions import NoCredentialsError
    from botocore.session import get_session

    credentials = get_session().get_credentials()

    def current() -> "S3Credential":
        if credentials is None:
            raise NoCredentialsError
        frozen = credentials.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + timedelta(minutes=5),
        }

    return current


@cache
def _s3fs_client(environment: _Environment) -> Any:
    from s3fs import S3FileSystem

    _keep_to_plain_checksums()
    retries = {"mode": "standard", "total_max_attempts": 3}
    limits = {"connect_timeout": 5, "read_timeout": 8, "retries": retries}
    client = S3FileSystem(endpoint_url=environment[0], config_kwargs=limits, skip_instance_cache=True)
    client.retries = 1  # its own retries, around those of botocore, would multiply the wait
    return client


@cache
def _arrow_client(environment: _Environment) -> "FileSystem":
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

    _keep_to_plain_checksums()
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return S3FileSystem(
        endpoint_override=environment[0],
        region=region or ("us-east-1" if environment[0] else None),
        connect_timeout=5,
        request_timeout=6,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=4),
    )
