"""Jobs over hosts of a network, each with its own address, and a real S3 server on another; hosts die meanwhile."""

from collections.abc import Iterator

import pytest
import yaml

from tests import s3server
from tests.cluster.hosts import Hosts, permitted
from tests.integration.conftest import TINY
from tests.jobs import Experiment, communicate, table_hash, wait_for
from tests.tally import Tally
from unet_ray import s3, storage
from unet_ray.checkpoint import find_checkpoint

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(not permitted(), reason="hosts need root, and network namespaces"),
]

BUCKET = "s3://hosts"
EPOCHS = 5


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    with Hosts(1, 1, 1) as started:
        yield started


@pytest.fixture(scope="module")
def store(hosts: Hosts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Give the environment of a store that the hosts reach over their network."""
    server = s3server.start(tmp_path_factory.mktemp("store"), hosts.outside)
    environment = {
        "AWS_ENDPOINT_URL": server.endpoint, "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret_key, "AWS_DEFAULT_REGION": "us-east-1", "AWS_ALLOW_HTTP": "true",
        "AWS_EC2_METADATA_DISABLED": "true",
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as ours:
        for name, value in environment.items():
            ours.setenv(name, value)
        s3.s3fs_client().call_s3("create_bucket", Bucket="hosts")
        yield environment
    s3server.stop(server)


@pytest.fixture(scope="module")
def here(store: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """An experiment, prepared and trained by two workers on this machine."""
    document = {
        **TINY,
        "run": {"name": "tiny", "storage": BUCKET},
        "synthetic": {**TINY["synthetic"], "frames": 60},
        "model": {"width": 16, "depth": 3},
        "train": {"epochs": EPOCHS, "batch_size": 2, "checkpoint_every_steps": 10},
        "scaling": {"num_workers": 2, "precision": "fp32"},
    }
    path = tmp_path_factory.mktemp("hosts") / "tiny.yaml"
    path.write_text(yaml.safe_dump(document))
    found = Experiment(path=path, environment=store)
    found.finish("prepare")
    found.finish("train")
    return found


@pytest.fixture(scope="module")
def there(hosts: Hosts, store: dict[str, str], here: Experiment) -> Experiment:
    hosts.start(store)
    return Experiment(path=here.path, environment={**store, **hosts.environment}, host=hosts.on_head)


def test_a_host_that_dies_while_others_predict_costs_no_frame(
    hosts: Hosts, here: Experiment, there: Experiment, tally: Tally
) -> None:
    flags = ("--predict.split", "train", "--predict.output")
    whole = here.finish("predict", *flags, f"{BUCKET}/here")
    job = there.start("predict", *flags, f"{BUCKET}/there")
    assert wait_for(lambda: any(True for _ in storage.list_objects(f"{BUCKET}/there/_seals")), job), communicate(job)
    hosts.replace_host(1)
    _, complaints = communicate(job)
    assert job.returncode == 0, complaints
    mismatched = table_hash(f"{BUCKET}/there") != table_hash(f"{BUCKET}/here")
    tally.add(trials=1, kills=1, mismatched=int(mismatched))
    assert whole["frames"] == 180
    assert not mismatched


def test_a_host_that_dies_while_two_train_changes_no_bit_of_the_weights(
    hosts: Hosts, here: Experiment, there: Experiment, tally: Tally
) -> None:
    flags = ("--run.name", "disturbed", "--data.dataset", f"{BUCKET}/tiny/dataset")
    job = there.start("train", *flags)
    checkpoints = f"{BUCKET}/disturbed/train/checkpoints"
    assert wait_for(lambda: any(True for _ in storage.list_objects(checkpoints)), job), communicate(job)
    hosts.replace_host(2)
    _, complaints = communicate(job)
    assert job.returncode == 0, complaints
    found = [find_checkpoint(f"{BUCKET}/{run}/train", "last").info for run in ("tiny", "disturbed")]
    mismatched = found[0].model_sha256 != found[1].model_sha256
    tally.add(trials=1, kills=1, mismatched=int(mismatched))
    assert [one.epoch for one in found] == [EPOCHS] * 2
    assert not mismatched
