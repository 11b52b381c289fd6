"""What is said of places and clusters that are not there, and of the whole command."""

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from unet_ray.cli import main
from unet_ray.config_file import parse_config
from unet_ray.doctor import places

CLOSED = "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [*os.environ]:
        if name.startswith(("AWS_", "RAY_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "an-id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
    monkeypatch.setenv("AWS_ENDPOINT_URL", CLOSED)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def say(**options: str) -> dict[str, tuple[str, str]]:
    """Return status and words of each check of a configuration's places."""
    config = parse_config({}, {key.replace("__", "."): value for key, value in options.items()}, "test")
    return {one.check: (one.status, str(one)[17:]) for one in places.check_places(config)}


def test_places_that_can_be_used_are_ok(tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames/1.png").touch()
    (tmp_path / "weights.pth").touch()
    said = say(
        data__root=f"{tmp_path}/frames", model__kind="resnet18", model__encoder_weights=f"{tmp_path}/weights.pth",
        run__storage=f"{tmp_path}/runs",
    )  # fmt: skip
    assert {key: status for key, (status, _) in said.items()} == {
        "data.root": "ok", "model.encoder_weights": "ok", "run.storage": "ok",
    }  # fmt: skip
    assert [path.name for path in (tmp_path / "runs/run").iterdir()] == ["_PROBE"]


def test_places_that_are_not_there_are_problems(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    said = say(
        data__root=f"{tmp_path}/nowhere", predict__images=f"{tmp_path}/empty",
        run__storage=f"{tmp_path}/file/runs", report__classic=f"{tmp_path}/classic",
    )  # fmt: skip
    fix = "check it, or run the stage that makes it"
    assert said["data.root"] == ("problem", f"there is nothing at {tmp_path}/nowhere; {fix}")
    assert said["predict.images"] == ("problem", f"there is nothing at {tmp_path}/empty; {fix}")
    assert said["run.storage"][0] == "problem"
    assert said["run.storage"][1].startswith(f"could not create {tmp_path}/file/runs/run/_PROBE: ")
    assert said["report.classic"][0] == "ok"


def test_a_store_that_does_not_answer_is_a_problem_of_each_place_in_it(tmp_path: Path) -> None:
    said = say(data__root="s3://bucket/frames", run__storage=f"{tmp_path}/runs")
    assert said["data.root"][0] == "problem"
    assert f"no answer from {CLOSED}" in said["data.root"][1]
    assert said["run.storage"][0] == "ok"
    assert "clock" not in said


@pytest.mark.parametrize(
    ("changes", "status", "told"),
    [
        ({}, "ok", "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY"),
        ({"AWS_SESSION_TOKEN": "a-token"}, "ok", "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN"),
        ({"AWS_SECRET_ACCESS_KEY": ""}, "problem", "AWS_SECRET_ACCESS_KEY is not set, its other half is; set both"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "warning", "none by name; set AWS_*, unless a role"),
    ],
)
def test_credentials_are_named_and_never_shown(
    changes: dict[str, str], status: str, told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    found = places._check_credentials(os.environ)
    assert (found.status, str(found)[17:][: len(told)]) == (status, told)
    assert not {"an-id", "a-secret", "a-token"} & {*str(found).replace(",", "").split()}


@contextmanager
def store_of_another_time(seconds: float) -> Iterator[str]:
    """Serve refusals that are dated so many seconds from now; give the URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response_only(403)
            self.send_header("Date", formatdate(time.time() + seconds, usegmt=True))
            self.end_headers()

        do_GET = do_HEAD

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()


@pytest.mark.parametrize(("seconds", "status"), [(0, "ok"), (-300, "warning"), (1200, "problem")])
def test_a_clock_that_is_wrong_is_told(seconds: float, status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with store_of_another_time(seconds) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url.replace("//", "//user:password@"))
        (found,) = places._check_clock()
    assert found.status == status
    assert int(found.found.split()[0]) == pytest.approx(abs(seconds), abs=30)


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"RAY_ADDRESS": "127.0.0.1:1"}, "RAY_ADDRESS: no Ray answers at 127.0.0.1:1"),
        ({"RAY_ADDRESS": "192.0.2.1:6379"}, "RAY_ADDRESS: 192.0.2.1 is another machine, and without a token"),
        ({"HOME": "/dev/null"}, "/dev/null/.ray/auth_token: Ray's token cannot be kept there"),
    ],
)
def test_a_cluster_that_cannot_be_used_is_a_problem(
    environment: dict[str, str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = places.check_cluster(environment)
    assert (found.status, found.found[: len(told)]) == ("problem", told)


def test_a_machine_of_ones_own_needs_no_cluster(tmp_path: Path) -> None:
    assert places.check_cluster({"HOME": str(tmp_path)}).status == "ok"


def test_the_command_ends_with_2_where_a_job_would_stop(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.yaml").write_text("data: {root: frames}\n")
    assert main(["doctor"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["problems"], {one["check"] for one in result["findings"]} & {"data.root"}) == (0, set())
    assert main(["doctor", "my.yaml"]) == 2
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert result["problems"] == 1
    (fault,) = (one for one in result["findings"] if one["status"] == "problem")
    assert (fault["check"], fault["found"]) == ("data.root", f"there is nothing at {tmp_path}/frames")
    lines = captured.err.splitlines()
    assert len(lines) == len(result["findings"]) + 2
    assert f"problem  data.root        there is nothing at {tmp_path}/frames; check it" in captured.err
    assert lines[-1].startswith("1 problem(s), which would stop a job, and ")


def test_a_configuration_that_cannot_be_read_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "nowhere.yaml"]) == 2
    assert capsys.readouterr().err.startswith("error: nowhere.yaml: cannot read this configuration file")
