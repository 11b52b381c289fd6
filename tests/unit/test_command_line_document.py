"""docs/command-line.md shows what the commands say."""

import re
import shlex
from pathlib import Path

import pytest

from unet_ray.cli import main

PATH = Path(__file__).parents[2] / "docs/command-line.md"
BLOCKS = re.findall(r"^```\n\$ unet-ray (.*)\n([^`]*)^```$", PATH.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize(("command", "shown"), BLOCKS, ids=[command for command, _ in BLOCKS])
def test_the_document_shows_the_help(
    command: str, shown: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "110")
    with pytest.raises(SystemExit):
        main(shlex.split(command))
    assert shown == capsys.readouterr().out, f"paste COLUMNS=110 unet-ray {command} into {PATH.name}"


def test_the_overview_and_a_stage_are_among_them() -> None:
    assert {"--help", "train --help", "doctor --help"} <= {command for command, _ in BLOCKS}


def test_every_exit_code_is_in_the_document_and_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    document = PATH.read_text(encoding="utf-8").split("## Exit codes")[1].split("\n## ")[0]
    with pytest.raises(SystemExit):
        main(["--help"])
    of_help = re.findall(r"^  ([\d, ]*\d)  ", capsys.readouterr().out, re.MULTILINE)
    assert re.findall(r"^\| ([\d, ]*\d) \|", document, re.MULTILINE) == of_help == ["0", "1", "2", "3", "130, 143"]
