"""The store of these tests."""

from collections.abc import Iterator

import pytest

from tests.faults.store import FaultStore


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultStore]:
    """Run a store without faults, and let the clients of this process and of its children find it."""
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    with FaultStore() as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        yield running
