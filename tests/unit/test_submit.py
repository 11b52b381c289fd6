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
from unet_ray.commands.stage import read_config, typed_flags
from unet_ray.commands.stages import STAGES
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
    with pytest.raises(ConfigError, match=rf"^{key}: {place} is a place on one machine, or in a copy"):
        submit.check_places(parse_config({}, {**good, key: place}, "test"))


def test_a_layout_of_ones_own_goes_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_layout.py").write_text("def find(root): ...\n")
    (tmp_path / "my_package").mkdir()
    for name in ("__init__", "night"):
        (tmp_path / "my_package" / f"{name}.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    own = {"data.layout": "my_layout:find", "predict.layout": "my_package.night:find"}
    found = submit.own_modules(parse_config({}, own, "test"))
    assert found == [tmp_path / "my_layout.py", tmp_path / "my_package"]
    assert submit.own_modules(parse_config({}, {}, "test")) == []
    with pytest.raises(ConfigError, match=r"^data.layout: there is no module nowhere here to send"):
        submit.own_modules(parse_config({}, {"data.layout": "nowhere:find"}, "test"))
    config = tmp_path / "street.yaml"
    config.touch()
    sent = tmp_path / "sent"
    sent.mkdir()
    job = submit.Job(name="n", stage="train", config_file=str(config), flags=[], variables={}, modules=found)
    assert submit._pack(sent, job) == "config.yaml"
    assert sorted(path.name for path in sent.iterdir()) == ["config.yaml", "my_layout.py", "my_package", "unet_ray"]
    assert (sent / "my_package" / "night.py").exists()
    assert not list(sent.rglob("__pycache__"))


def test_flags_mean_the_same_when_they_are_sent(yaml_file: str) -> None:
    typed = [
        yaml_file, "--scaling.num_workers", "2", "4", "--augment.crop", "32", "48", "--predict.scales", "0.75", "1",
        "--loss.class_weights", "median", "--optim.lr=1e-3", "--data.root", "s3://b/a b", "--run.name", "null-1",
        "--predict.masks", "null", "--labels.classes", "road", "sky, blue", "--data.val_fraction", "0.5",
    ]  # fmt: skip
    parser = STAGES["train"].parser()
    here = parser.parse(typed)
    there = parser.parse([yaml_file, *(f"--{key}={value}" for key, value in typed_flags(here).items())])
    assert typed_flags(there) == typed_flags(here)
    assert read_config(there) == read_config(here)
    assert read_config(here).scaling.num_workers == (2, 4)


def test_a_submitted_job_does_not_write_into_its_copy_of_the_code(
    yaml_file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert main(["train", yaml_file, "--run.storage", "runs", "--data.root", "frames"]) == 2
    line = json.loads(capsys.readouterr().err)
    assert line["level"] == "ERROR"
    assert line["message"].startswith("run.storage: runs is a place on one machine, or in a copy of the code")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "the following arguments are required: STAGE"),
        (["trian", "YAML"], "unet-ray submit: argument STAGE: invalid choice: 'trian' (choose from"),
        (["train", "nowhere.yaml"], "nowhere.yaml: cannot read this configuration file"),
        (["train", "YAML", "--optim.lrr", "1"], "--optim.lrr: no such option; did you mean --optim.lr?"),
        (["train", "YAML", "--run.storage", "runs"], "run.storage: runs is a place on one machine"),
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
