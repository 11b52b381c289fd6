"""Secrets of the environment stay there: a real job on a real store, and then every file and line it left is read."""

import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.jobs import COMMAND, environment
from tests.s3server import S3Server
from unet_ray import storage

CANARY = "canary-5f0c8d1b7e"

JOB = """
import logging, sys
logging.basicConfig(level=logging.INFO)
from pathlib import Path
from tests.integration.conftest import tiny_config
from unet_ray import prepare, runtime
from unet_ray.predict import run as predict
from unet_ray.report import run as report
from unet_ray.train import run as train
config = tiny_config(Path("/"), run__storage=sys.argv[1], train__epochs="1")
with runtime.connected():
    prepare.run(config)
    train.run(config)
    print(predict.run(config))
print(report.run(config))
"""


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """Give a folder whose name is short enough for Ray's sockets."""
    folder = Path(tempfile.mkdtemp())
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_no_secret_of_the_environment_is_written_anywhere(
    s3_bucket: str, s3_server: S3Server, short_folder: Path
) -> None:
    home, session = short_folder / "home", short_folder / "ray"
    home.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", JOB, s3_bucket], capture_output=True, check=False,
        env={**environment(), "HOME": str(home), "RAY_TMPDIR": str(session), "HF_TOKEN": CANARY},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    token = home / ".ray" / "auth_token"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (token, token.parent)] == [0o600, 0o700]
    secrets = [s3_server.secret_key.encode(), CANARY.encode(), token.read_bytes()]

    logs = [path for path in session.rglob("*") if path.is_file() and not path.is_symlink()]
    texts = {str(path): path.read_bytes() for path in logs}
    texts |= {item.uri: storage.read_bytes(item.uri) for item in storage.list_objects(s3_bucket)}
    texts |= {"standard output": done.stdout, "standard error": done.stderr}
    print(f"{len(logs)} files of Ray, {len(texts)} in all, {sum(map(len, texts.values())):,} bytes")  # noqa: T201
    assert len(logs) > 10
    assert any(name.endswith("_seals/000000.json") for name in texts)
    assert any(name.endswith("index.html") for name in texts)
    assert [name for name, text in texts.items() if any(secret in text for secret in secrets)] == []
    assert any(s3_bucket.encode() in text for text in texts.values())  # the search finds what is there


def test_a_refused_secret_is_not_repeated(s3_bucket: str, s3_server: S3Server) -> None:
    if s3_server.kind == "moto":
        pytest.skip("moto checks no credentials")
    wrong = {"AWS_SECRET_ACCESS_KEY": CANARY, "AWS_ENDPOINT_URL": s3_server.endpoint.replace("//", f"//user:{CANARY}@")}
    for name, value in wrong.items():
        done = subprocess.run(
            [*COMMAND, "verify", f"{s3_bucket}/table"], capture_output=True, text=True, check=False,
            env={**environment(), name: value},
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("error: ")
        assert CANARY not in done.stderr
