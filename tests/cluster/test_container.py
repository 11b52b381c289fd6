"""The image, as far as that goes without an engine: linted, and its install steps run in a fresh environment."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from unet_ray import __version__

ROOT = Path(__file__).parents[2]
FILE = ROOT / "cluster/Containerfile"


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the file with their lines joined."""
    text = re.sub(r"^#.*\n", "", FILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line.strip()]


def test_the_linter_has_nothing_to_say() -> None:
    linter = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert linter is not None
    done = subprocess.run([linter, str(FILE)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_runs_as_a_user_says_when_it_is_well_and_holds_no_build_tools() -> None:
    last = len(instructions()) - 1 - [name for name, _ in reversed(instructions())].index("FROM")
    final = dict(instructions()[last:])
    assert final["USER"] == "1000"
    assert "ray" in final["HEALTHCHECK"]
    assert "pip install" not in " ".join(text for name, text in instructions()[last:] if name == "RUN")


def test_every_file_that_is_copied_is_let_into_the_build() -> None:
    let_in = {line[1:] for line in (ROOT / ".containerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        source.removeprefix("./")
        for name, text in instructions()
        if name == "COPY" and not text.startswith("--from")
        for source in text.split()[:-1]
    }
    assert copied == let_in
    assert all((ROOT / name).exists() for name in copied)


def test_the_install_step_makes_a_command_that_works(tmp_path: Path) -> None:
    """The step for CUDA, with the same files and nothing else; the versions are those of the lock."""
    (step,) = [text for name, text in instructions() if name == "RUN" and "constraints.txt" in text]
    command = re.search(r"(uv pip install --no-cache --constraint constraints\.txt '[^']*query[^']*')", step)
    assert command is not None
    for name, text in instructions():
        if name == "COPY" and not text.startswith("--from"):
            for source in text.split()[:-1]:
                copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
                copy(ROOT / source, tmp_path / source)
    uv = shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv is None:
        pytest.skip("uv is not beside this Python")
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, "env"], cwd=tmp_path, check=True)
    words = [uv, *command[1].replace("'", "").replace("--no-cache ", "").split()[1:], "--quiet"]
    (variable,) = [text for name, text in instructions() if name == "ENV" and text.startswith("UV_")]
    key, _, value = variable.partition("=")
    variables = {"VIRTUAL_ENV": str(tmp_path / "env"), key: value}
    subprocess.run(words, cwd=tmp_path, env=os.environ | variables, check=True)
    for package in ("torch", "ray", "unet_ray"):  # processes cannot write bytecode where the image is read-only
        assert list((tmp_path / "env").glob(f"lib/python*/site-packages/{package}/__pycache__/*.pyc"))
    told = subprocess.run([tmp_path / "env/bin/unet-ray", "--version"], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == __version__
    helped = subprocess.run(
        [tmp_path / "env/bin/python", tmp_path / "jobs/predict.py", "--help"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "CONFIG" in helped.stdout
