import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import ray

from unet_ray import submit
from unet_ray.cli import main
from unet_ray.config_file import parse_config
from unet_ray.errors import ConfigError, ResourceError


@pytest.fixture
def yaml_file(tmp_path: Path) -> str:
    path = tmp_path / "street.yaml"
    path.write_text("run: {name: street, storage: s3://bucket/runs}\n")
    return str(path)


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")


@contextmanager
def server(answers: Callable[[str], tuple[int, str]]) -> Iterator[str]:
    """Serve what a path is answered with; give the URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code, text = answers(self.path)
            self.send_response(code)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()


def refusal(yaml_file: str, address: str) -> str:
    job = submit.Job(name="train-0", stage="train", config_file=yaml_file, flags=[], variables={})
    with pytest.raises(ResourceError) as refused:
        submit.run(address, job, {"RAY_AUTH_MODE": "disabled"}, wait=True)
    return str(refused.value)


@pytest.mark.parametrize(
    ("code", "text"), [(404, "nothing here"), (200, "<html>a page</html>"), (200, '{"other": 1}'), (500, "")]
)
def test_what_is_no_dashboard_is_refused(yaml_file: str, code: int, text: str) -> None:
    with server(lambda path: (code, text)) as address:
        said = refusal(yaml_file, address.removeprefix("http://"))
    assert said.startswith(f"--address: no Ray dashboard answers at {address}: ")
    assert said.endswith("kubectl port-forward SERVICE 8265")


def test_another_version_of_ray_is_refused_with_both_named(yaml_file: str) -> None:
    with server(lambda path: (200, json.dumps({"ray_version": "2.49.1", "version": "4"}))) as address:
        said = refusal(yaml_file, address)
    assert f"the cluster at {address} runs Ray 2.49.1, here is {ray.__version__}; install the same here" in said


def test_another_machine_needs_a_token(yaml_file: str) -> None:
    assert "without a token whoever reaches that cluster runs code on it" in refusal(yaml_file, "http://10.0.0.7:8265")


@pytest.mark.parametrize(
    "name",
    ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "db_password", "API_KEY", "GIT_CREDENTIALS"],
)
def test_a_secret_is_not_given_to_a_job(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"^--env: {name} looks like a secret.*set it where the nodes start"):
        submit.pick_variables([name], {name: "value"})


def test_variables_are_named_and_their_values_are_those_of_here() -> None:
    assert submit.pick_variables(["LANG", "MONKEY"], {"LANG": "C", "MONKEY": "", "HOME": "/root"}) == {
        "LANG": "C",
        "MONKEY": "",
    }
    with pytest.raises(ConfigError, match=r"^--env: LANG is not set here"):
        submit.pick_variables(["LANG"], {})


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("run.storage", "runs"),
        ("data.root", "../frames"),
        ("predict.images", "night"),
        ("predict.checkpoint", "step-1"),
    ],
)
def test_a_place_on_this_machine_is_refused_before_anything_is_sent(key: str, place: str) -> None:
    good = {"run.storage": "s3://bucket/runs", "data.root": "/mnt/shared", "predict.checkpoint": "best"}
    submit.check_places(parse_config({}, good, "test"))
    with pytest.raises(ConfigError, match=rf"^{key}: {place} is a place on this machine"):
        submit.check_places(parse_config({}, {**good, key: place}, "test"))


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "the following arguments are required: STAGE"),
        (["trian", "YAML"], "trian: no such stage; take one of labels, prepare"),
        (["train", "nowhere.yaml"], "nowhere.yaml: cannot read this configuration file"),
        (["train", "YAML", "--optim.lrr", "1"], "--optim.lrr: no such option; did you mean --optim.lr?"),
        (["train", "YAML", "--run.storage", "runs"], "run.storage: runs is a place on this machine"),
        (["--env", "MY_TOKEN", "train", "YAML"], "--env: MY_TOKEN looks like a secret"),
        (["--address", "http://127.0.0.1:1", "train", "YAML"], "--address: no Ray answers at 127.0.0.1:1"),
    ],
)
def test_bad_command_lines_are_one_line(
    argv: list[str], said: str, yaml_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit", *(yaml_file if word == "YAML" else word for word in argv)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    [line] = captured.err.splitlines()
    assert line.startswith("error: ")
    assert said in line
