"""What the documents tell a user to type is what the command line takes, and what they point at is there."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from unet_ray.commands import COMMANDS
from unet_ray.commands.stage import typed_flags
from unet_ray.commands.stages import STAGES
from unet_ray.config_file import load_config, option_fields, parse_config, sections

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "cluster/README.md")] + sorted(
    ROOT.glob("docs/**/*.md")
)
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
KEYS = {key for key, _ in option_fields()}

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def commands_of(text: str) -> list[list[str]]:
    """Return the words of each command, without remarks behind it."""
    blocks = [body.replace("\\\n", " ") for kind, body in BLOCK.findall(text) if kind in ("", "bash", "sh")]
    typed = re.findall(r"^\s*(?:\$ )?unet-ray ([a-z].*)$", "\n".join(blocks), re.MULTILINE)
    typed += [" ".join(code.split()) for code in re.findall(r"`unet-ray ([a-z][^`]*)`", BLOCK.sub("", text))]
    return [shlex.split(line, comments=True) for line in typed]


def check_stage(name: str, words: list[str]) -> None:
    """Parse a stage's arguments and read its configuration, another one where the file is the reader's."""
    options = STAGES[name].parser().parse(words)
    config = ROOT / options.config
    load_config(str(config if config.exists() else ROOT / "jobs/configs/smoke.yaml"), typed_flags(options))


@each_page
def test_commands_are_taken_as_they_are_written(page: Path) -> None:
    for name, *words in commands_of(page.read_text()):
        assert name in COMMANDS
        if not words or "--help" in words:
            continue
        if name in STAGES:
            check_stage(name, words)
            continue
        options = COMMANDS[name].parser().parse(words)
        if name == "submit":
            check_stage(options.stage, options.command)


@each_page
def test_flags_are_options(page: Path) -> None:
    names = "|".join(name for name, _ in sections())
    found = re.findall(rf"--((?:{names})\.\w+)", page.read_text())
    assert set(found) <= KEYS


@each_page
def test_configurations_are_read(page: Path) -> None:
    known = {name for name, _ in sections()}
    for kind, body in BLOCK.findall(page.read_text()):
        if kind == "yaml" and set(document := yaml.safe_load(body)) <= known:
            config = parse_config(document, {}, str(page))
            assert config.run.name == document.get("run", {}).get("name", "run")


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", BLOCK.sub("", page.read_text()))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


def test_there_are_commands_to_look_at() -> None:
    assert sum(len(commands_of(page.read_text())) for page in PAGES) > 50
