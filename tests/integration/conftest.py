"""One Ray for all integration tests of a session; runs are small and live in folders of their own."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from unet_ray import runtime
from unet_ray.config import Config
from unet_ray.config_file import parse_config

TINY: Mapping[str, Any] = {
    "data": {"layout": "synthetic", "split": "group", "val_fraction": 0.25, "shard_rows": 16},
    "synthetic": {"sequences": 4, "frames": 7, "height": 48, "width": 64},
    "model": {"width": 4, "depth": 2},
    "augment": {"crop": [32, 48]},
    "train": {"epochs": 2, "batch_size": 4},
    "predict": {"batch_size": 4, "shard_rows": 8},
    "report": {"panels": 1},
}


@pytest.fixture(scope="session")
def ray_cluster(s3_environment: dict[str, str]) -> Iterator[None]:
    """A local Ray whose workers know the S3 server."""
    with runtime.connected():
        yield


@pytest.fixture
def make_config(tmp_path: Path) -> Callable[..., Config]:
    """Build a tiny configuration that runs under ``tmp_path``, changed by dotted keys."""

    def make(**changes: str) -> Config:
        overrides = {"run.storage": str(tmp_path), **{key.replace("__", "."): value for key, value in changes.items()}}
        return parse_config(TINY, overrides, "test")

    return make
