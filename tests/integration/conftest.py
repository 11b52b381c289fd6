"""One Ray for all integration tests of a session; runs are small and live in folders of their own."""

import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from unet_ray import prepare, runtime
from unet_ray.config import Config
from unet_ray.config_file import parse_config
from unet_ray.predict import run as predict
from unet_ray.report import run as report
from unet_ray.train import run as train

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


@pytest.fixture(scope="session")
def finished(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, predict.PredictResult]:
    """A run on local disk with all four stages done; tests read it, and add outputs of their own."""
    config = tiny_config(tmp_path_factory.mktemp("finished"))
    return config, run_all(config)


def run_all(config: Config) -> predict.PredictResult:
    """Run the four stages."""
    prepare.run(config)
    train.run(config)
    result = predict.run(config)
    report.run(config)
    return result


def tiny_config(root: Path, **changes: str) -> Config:
    """Return a tiny configuration that runs under ``root``, changed by keys such as ``optim__lr``."""
    overrides = {"run.storage": str(root), **{key.replace("__", "."): value for key, value in changes.items()}}
    return parse_config(TINY, overrides, "test")


@pytest.fixture
def make_config(tmp_path: Path) -> Callable[..., Config]:
    """Build tiny configurations that run under ``tmp_path``."""
    return functools.partial(tiny_config, tmp_path)
