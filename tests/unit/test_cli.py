import json
import logging
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from unet_ray import __version__
from unet_ray.cli import main, run_stage
from unet_ray.commands import COMMANDS, stage
from unet_ray.commands.stages import STAGES
from unet_ray.config import Config
from unet_ray.config_file import leaves, sections
from unet_ray.errors import CheckpointError


@pytest.fixture
def yaml_file(tmp_path: Path) -> str:
    path = tmp_path / "street.yaml"
    path.write_text("run: {name: street}\noptim: {lr: 0.1}\n")
    return str(path)


@pytest.fixture
def stage_does(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Config], Mapping[str, Any]]], None]:
    """Give a function that puts another work in the place of every stage's."""

    def replace(work: Callable[[Config], Mapping[str, Any]]) -> None:
        monkeypatch.setattr(stage, "_run", lambda module, outputs, config: work(config))

    return replace


@pytest.fixture
def configured(stage_does: Callable[..., None]) -> Callable[..., Config]:
    """Give a function that runs a command line as far as its configuration."""
    seen: list[Config] = []

    def keep(config: Config) -> Mapping[str, Any]:
        seen.append(config)
        return {}

    stage_does(keep)

    def run(*argv: str) -> Config:
        assert run_stage("train", argv) == 0
        return seen[-1]

    return run


def error_of(capsys: pytest.CaptureFixture[str], code: int) -> str:
    captured = capsys.readouterr()
    assert code == 2
    assert captured.out == ""
    [line] = captured.err.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


# Help


@pytest.mark.parametrize("argv", [["--help"], ["train", "--help"], ["verify", "--help"], ["train", "none.yaml"]])
def test_help_and_errors_load_nothing_heavy(argv: list[str]) -> None:
    script = f"""
import sys
from unet_ray.cli import main
try:
    main({argv!r})
except SystemExit:
    pass
heavy = ["ray", "torch", "numpy", "pyarrow", "cv2", "pydantic", "s3fs", "obstore"]
print([name for name in heavy if name in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"


def help_of(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 0
    return capsys.readouterr().out


def test_the_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    shown = help_of(capsys, "--help")
    assert [name for name in COMMANDS if not re.search(rf"^    {name}\s", shown, re.M)] == []


def test_the_version_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert help_of(capsys, "--version") == f"{__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_is_short_and_ends_with_an_example_that_it_understands(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = help_of(capsys, name, "-h")
    assert shown == help_of(capsys, name, "--help")
    assert shown.startswith(f"usage: unet-ray {name} ")
    lines = shown.splitlines()
    assert len(lines) <= 30
    assert max(map(len, lines)) <= 100
    example = lines[-1].removeprefix(f"Example: unet-ray {name} ")
    COMMANDS[name].parser().parse(shlex.split(example))


@pytest.mark.parametrize("name", STAGES)
def test_the_help_of_a_stage_shows_every_option_with_its_default_when_asked_for_all(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    shown = " ".join(help_of(capsys, name, "--help", "all").split())
    assert shown.startswith(f"usage: unet-ray {name} CONFIG [--section.key VALUE ...]")
    for key, _, doc in leaves():
        assert f" --{key} " in shown
        assert " ".join(doc.split()) in shown
    for default in (
        "Largest learning rate of the run. [0.002]",
        "and largest zoom. [0.75 1.5]",
        "early. [null]",
    ):
        assert default in shown


def test_the_help_of_a_stage_shows_the_options_of_a_section(capsys: pytest.CaptureFixture[str]) -> None:
    shown = help_of(capsys, "train", "--help", "report")
    assert [key for key, *_ in leaves() if f"  --{key} " in shown] == [
        key for key, *_ in leaves() if key.startswith("report.")
    ]
    assert error_of(capsys, main(["train", "--help", "optin"])).startswith(
        "--help: optin: no such section; take one of"
    )


def test_every_section_matters_to_a_stage(capsys: pytest.CaptureFixture[str]) -> None:
    shown = "".join(help_of(capsys, name, "-h") for name in STAGES)
    assert set(re.findall(r"^  ([a-z]+) +[A-Z]", shown, re.M)) == {name for name, _ in sections()}


# Flags


@pytest.mark.parametrize(
    ("argv", "key", "value"),
    [
        (["--optim.lr", "3e-4"], "optim.lr", 3e-4),
        (["--optim.lr=3e-4"], "optim.lr", 3e-4),
        (["--run.name", "2024"], "run.name", "2024"),
        (["--data.resize", "64", "96"], "data.resize", (64, 96)),
        (["--data.resize", "[64, 96]"], "data.resize", (64, 96)),
        (["--data.resize", "null"], "data.resize", None),
        (["--labels.classes", "nothing", "road"], "labels.classes", ("nothing", "road")),
        (["--labels.classes", "nothing"], "labels.classes", ("nothing",)),
        (["--labels.ignore_ids", "255"], "labels.ignore_ids", (255,)),
        (["--labels.ignore_ids", "[]"], "labels.ignore_ids", ()),
        (["--labels.palette", "[1,2,3]", "[4,5,6]"], "labels.palette", ((1, 2, 3), (4, 5, 6))),
        (["--loss.class_weights", "sqrt"], "loss.class_weights", "sqrt"),
        (["--loss.class_weights", "none"], "loss.class_weights", "none"),
        (["--loss.class_weights", "1", "0.5"], "loss.class_weights", (1.0, 0.5)),
        (["--scaling.num_workers", "2"], "scaling.num_workers", 2),
        (["--scaling.num_workers", "2", "8"], "scaling.num_workers", (2, 8)),
        (["--scaling.num_workers", "[2, 8]"], "scaling.num_workers", (2, 8)),
        (["--augment.scale", "0.5", "2"], "augment.scale", (0.5, 2.0)),
        (["--data.root", "s3://bucket/a b: c"], "data.root", "s3://bucket/a b: c"),
        ([], "optim.lr", 0.1),
    ],
)
def test_flags_are_read_on_top_of_the_file(
    configured: Callable[..., Config], yaml_file: str, argv: list[str], key: str, value: object
) -> None:
    section, _, name = key.partition(".")
    assert getattr(getattr(configured(yaml_file, *argv), section), name) == value


def test_local_places_become_absolute_and_others_stay(
    configured: Callable[..., Config], yaml_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = configured(yaml_file, "--data.root", "frames", "--predict.images", "s3://bucket/x/")
    assert config.run.storage == f"{tmp_path}/runs"
    assert config.data.root == f"{tmp_path}/frames"
    assert config.data.group_pattern is None
    assert config.predict.images == "s3://bucket/x/"
    assert config.predict.checkpoint == "best"
    assert configured(yaml_file, "--predict.checkpoint", "a/b").predict.checkpoint == f"{tmp_path}/a/b"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--optim.lrr", "1"], "--optim.lrr: no such option; did you mean --optim.lr? (see unet-ray train --help)"),
        (["--optim.lrr=1"], "--optim.lrr: no such option; did you mean --optim.lr? (see unet-ray train --help)"),
        (["--epochs", "1"], "--epochs: no such option; did you mean --train.epochs? (see unet-ray train --help)"),
        (["--optim.l", "1"], "--optim.l: no such option; did you mean --optim.lr? (see unet-ray train --help)"),
        (["other.yaml"], "other.yaml: no such option (see unet-ray train --help)"),
        (["--optim.lr"], "unet-ray train: argument --optim.lr: expected one argument (see unet-ray train --help)"),
        (["--optim.lr", "-1"], "--optim.lr: must be > 0, got -1.0"),
        (["--optim.lr", "fast"], "--optim.lr: input should be a valid number, unable to parse string as a number"),
        (["--data.resize", "64"], "--data.resize: too few values, got [64]"),
        (["--run.storage", "~/runs"], "~/runs starts with '~', which is not expanded: write the home folder out"),
        (["--data.root", "gs://bucket"], "the scheme of gs://bucket is not supported"),
    ],
)
def test_a_flag_that_cannot_be_used_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], yaml_file: str, argv: list[str], message: str
) -> None:
    assert error_of(capsys, run_stage("train", [yaml_file, *argv])).startswith(message)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "unet-ray: the following arguments are required: COMMAND (see unet-ray --help)"),
        (["--json"], "unet-ray: the following arguments are required: COMMAND (see unet-ray --help)"),
        (["training"], "training: no such command; did you mean train? (see unet-ray --help)"),
        (["serve"], "serve: no such command (see unet-ray --help)"),
        (["train"], "unet-ray train: the following arguments are required: CONFIG (see unet-ray train --help)"),
        (["train", "none.yaml"], "none.yaml: cannot read this configuration file"),
        (["verify"], "unet-ray verify: the following arguments are required: uri (see unet-ray verify --help)"),
        (["verify", "--fix", "x"], "--fix: no such option (see unet-ray verify --help)"),
        (["verify", "x", "--gcc"], "--gcc: no such option; did you mean --gc? (see unet-ray verify --help)"),
        (["verify", "/nowhere/at/all"], "/nowhere/at/all"),
        (["verify", "~/table"], "~/table starts with '~', which is not expanded"),
    ],
)
def test_a_command_that_cannot_be_run_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], argv: list[str], message: str
) -> None:
    assert error_of(capsys, main(argv)).startswith(message)


def test_a_fault_in_the_file_is_shown_in_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("optim:\n  lr: 1\n lr: 2\n")
    assert error_of(capsys, main(["train", str(path)])).startswith(f"{path}: not valid YAML: ")


# Results and endings


def test_the_result_is_the_only_line_on_standard_output(
    capsys: pytest.CaptureFixture[str], yaml_file: str, stage_does: Callable[..., None]
) -> None:
    def work(config: Config) -> Mapping[str, Any]:
        sys.stdout.write("a library says hello\n")
        logging.getLogger("unet_ray.prepare").info("3 images found")
        return {"dataset": "café", "ok": 3, "mean": None}

    stage_does(work)
    assert main(["prepare", yaml_file]) == 0
    captured = capsys.readouterr()
    assert captured.out == '{"dataset": "café", "ok": 3, "mean": null}\n'
    assert "a library says hello" in captured.err
    assert "3 images found" in captured.err


def test_an_error_of_ours_inside_anothers_is_found(
    capsys: pytest.CaptureFixture[str], yaml_file: str, stage_does: Callable[..., None]
) -> None:
    def work(config: Config) -> Mapping[str, Any]:
        try:
            raise CheckpointError("runs/a: no checkpoint;\n  train first")
        except CheckpointError as error:
            raise RuntimeError("a task failed") from error

    stage_does(work)
    assert error_of(capsys, main(["predict", yaml_file])) == "runs/a: no checkpoint; train first"


def test_a_fault_of_ours_has_code_1_and_the_words_of_the_task_that_failed(
    capsys: pytest.CaptureFixture[str], yaml_file: str, stage_does: Callable[..., None]
) -> None:
    class TaskError(Exception):
        """As Ray's, which have many lines and hold what was raised in a task."""

        cause = KeyError("missing")

    def work(config: Config) -> Mapping[str, Any]:
        raise TaskError("ray::task()\n  File ...")

    stage_does(work)
    assert main(["train", yaml_file]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[-1] == "error: a fault of ours: KeyError: 'missing'; its trace is above"


def test_nothing_forges_a_line_or_drives_the_terminal(
    capsys: pytest.CaptureFixture[str], yaml_file: str, stage_does: Callable[..., None]
) -> None:
    name = "a\r\n00:00:00 trained\x1b[2J\x9b2J\u202e\u2028.png"

    def work(config: Config) -> Mapping[str, Any]:
        logging.getLogger("unet_ray.report").warning("%s: not shown", name)
        raise CheckpointError(f"{name}: no checkpoint")

    stage_does(work)
    assert main(["report", yaml_file]) == 2
    logged, error = capsys.readouterr().err.splitlines()
    assert logged.endswith(r" warning: a\r\n00:00:00 trained\x1b[2J\x9b2J\u202e\u2028.png: not shown")
    assert error == r"error: a 00:00:00 trained\x1b[2J\x9b2J\u202e .png: no checkpoint"


# verify


def test_a_sound_table_is_verified(capsys: pytest.CaptureFixture[str], dataset_uri: str) -> None:
    assert main(["verify", f"{dataset_uri}/"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["num_rows"], found["num_ok"], found["num_quarantined"]) == (22, 20, 2)
    assert found["problems"] == []


def test_a_damaged_table_is_an_error(capsys: pytest.CaptureFixture[str], dataset_uri: str, tmp_path: Path) -> None:
    uri = f"{tmp_path}/dataset"
    shutil.copytree(dataset_uri, uri)
    next((tmp_path / "dataset/data").rglob("*.parquet")).write_bytes(b"PAR1")
    message = error_of(capsys, main(["verify", uri]))
    assert message.startswith(f"{uri}: ")
    assert "changed after it was sealed (sha256 differs)" in message


def test_garbage_is_collected_only_when_asked(
    capsys: pytest.CaptureFixture[str], dataset_uri: str, tmp_path: Path
) -> None:
    shutil.copytree(dataset_uri, tmp_path / "dataset")
    orphan = tmp_path / "dataset/data/000000/orphan.parquet"
    orphan.write_bytes(b"left by a task that died")
    assert main(["verify", f"{tmp_path}/dataset"]) == 0
    assert json.loads(capsys.readouterr().out)["orphans"] == ["data/000000/orphan.parquet"]
    assert orphan.exists()
    assert main(["verify", f"{tmp_path}/dataset", "--gc"]) == 0
    assert json.loads(capsys.readouterr().out)["removed"] == 1
    assert not orphan.exists()
