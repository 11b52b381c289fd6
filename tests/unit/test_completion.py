"""What real shells complete, by the scripts that they are given."""

import shutil
import subprocess
from pathlib import Path

import pytest

from unet_ray.cli import main
from unet_ray.commands import COMMANDS
from unet_ray.commands.stages import STAGES
from unet_ray.config_file import option_fields, sections

ASK = 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _unet_ray; printf "%s\\n" "${COMPREPLY[@]}"'


@pytest.fixture
def script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["completion", "bash"]) == 0
    path = tmp_path / "completion.bash"
    path.write_text(capsys.readouterr().out)
    return str(path)


def complete(script: str, *words: str) -> list[str]:
    """Return what bash offers for the last of the words that follow ``unet-ray``."""
    command = ["bash", "-euo", "pipefail", "-c", f"set +e; {ASK}", "bash", script, "unet-ray", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ([""], [*COMMANDS]),
        (["p"], ["prepare", "plan", "predict", "pipeline", "pick"]),
        (["--"], ["--help", "--version"]),
        (["train", ""], []),  # files
        (["train", "my.yaml", "--optim.l"], ["--optim.lr"]),
        (["train", "--help", "au"], ["augment"]),
        (["predict", "my.yaml", "--predict.layout", "ci"], ["cityscapes"]),
        (["train", "my.yaml", "--optim.kind", "=", "ad"], ["adamw", "adam"]),
        (["train", "my.yaml", "--optim.kind", "="], ["adamw", "adam", "sgd", "rmsprop"]),
        (["train", "my.yaml", "--optim.compile", ""], ["true", "false"]),
        (["train", "my.yaml", "--loss.class_weights", ""], ["none", "median", "sqrt"]),
        (["predict", "my.yaml", "--predict.planes", ""], ["confidence", "second_mask"]),
        (["train", "my.yaml", "--optim.lr", ""], []),
        (["export", "runs/a", "out", "--as", "o"], ["overlay"]),
        (["export", "--w"], ["--where"]),
        (["submit", ""], [*STAGES]),
        (["submit", "--address", ""], []),
        (["submit", "--n"], ["--no-wait"]),
        (["submit", "--env", "LANG", "tr"], ["train"]),
        (["submit", "--no-wait", "train", "my.yaml", "--train.ep"], ["--train.epochs"]),
        (["submit", "train", "my.yaml", "--optim.kind", "s"], ["sgd"]),
        (["completion", ""], ["bash", "zsh"]),
        (["nothing", "--"], []),
    ],
)
def test_bash_offers_what_fits(script: str, words: list[str], offered: list[str]) -> None:
    assert complete(script, *words) == offered


def test_every_option_and_every_section_is_offered(script: str) -> None:
    flags = complete(script, "train", "my.yaml", "--")
    assert {*flags} == {"--help", "--json", "--debug", *(f"--{key}" for key, _ in option_fields())}
    assert complete(script, "train", "--help", "") == [*(name for name, _ in sections()), "all"]


def test_names_of_files_are_left_to_bash(script: str) -> None:
    """Where nothing is offered, ``complete`` was told to go on with what bash completes anywhere."""
    shown = subprocess.run(
        ["bash", "-c", f'source "{script}"; complete -p unet-ray'], capture_output=True, text=True, check=True
    )
    assert shown.stdout == "complete -o bashdefault -o default -F _unet_ray unet-ray\n"


@pytest.mark.skipif(shutil.which("zsh") is None, reason="there is no zsh")
def test_zsh_takes_its_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "zsh"]) == 0
    path = tmp_path / "completion.zsh"
    path.write_text(capsys.readouterr().out)
    command = ["zsh", "-f", "-c", f"source {path} && whence -w _unet_ray && print -r -- $_comps[unet-ray]"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("_unet_ray: function\n_bash_complete ")
    assert done.stderr == ""
