"""A store that stops answering while a run trains: the run waits, and nobody is replaced."""

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.integration.conftest import tiny_config
from tests.s3server import S3Server
from tests.tally import Tally
from unet_ray import prepare, runtime
from unet_ray.checkpoint import find_checkpoint, list_checkpoints
from unet_ray.train import run as train

OUTAGE_S = 45  # longer than the 30 s for which the clients try by themselves


@pytest.fixture
def ray_cluster(s3_environment: dict[str, str]) -> Iterator[None]:
    """A local Ray whose workers know the S3 server."""
    with runtime.connected():
        yield


@pytest.mark.usefixtures("ray_cluster")
def test_training_outlasts_a_store_that_stops_answering(
    tmp_path: Path, s3_bucket: str, s3_server: S3Server, tally: Tally
) -> None:
    changes = {"run__storage": s3_bucket, "train__epochs": "8", "train__max_failures": "0"}
    calm = tiny_config(tmp_path, **changes)
    prepare.run(calm)
    train.run(calm)
    config = tiny_config(tmp_path, run__name="outage", data__dataset=calm.dataset_uri, **changes)
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(train.run, config)
        while not list_checkpoints(config.train_uri):
            time.sleep(0.1)
        for process in s3_server.processes.values():
            process.send_signal(signal.SIGSTOP)
        time.sleep(OUTAGE_S)
        assert not job.done()
        for process in s3_server.processes.values():
            process.send_signal(signal.SIGCONT)
        job.result(300)
    undisturbed, found = (find_checkpoint(one.train_uri, "last").info.model_sha256 for one in (calm, config))
    tally.add(trials=1, outages=1, mismatched=int(found != undisturbed))
    assert found == undisturbed
