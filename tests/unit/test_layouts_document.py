import re
import sys
from pathlib import Path
from typing import get_args

import pytest

from tests.unit.layout_files import PHOTO, check, draw_cityscapes, ids_png, mask_of, put, rows_of
from unet_ray.config import Config
from unet_ray.config_file import parse_config
from unet_ray.config_input import DataSection, LayoutName
from unet_ray.labels.presets import PRESETS

DOCUMENT = (Path(__file__).parents[2] / "docs/layouts.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    fenced = DOCUMENT.split("```")[1::2]
    return [text for header, _, text in (block.partition("\n") for block in fenced) if header == language]


def commands() -> list[list[str]]:
    return [block.partition("unet-ray prepare my.yaml ")[2].split() for block in blocks("")]


def config_of(command: list[str], root: str) -> Config:
    flags = dict(zip([flag.removeprefix("--") for flag in command[::2]], command[1::2], strict=True))
    return parse_config({"labels": {"classes": ["road", "car"]}}, flags | {"data.root": root}, "my.yaml")


def test_the_list_of_the_document_is_one(tmp_path: Path) -> None:
    [text] = blocks("csv")
    for line in text.splitlines()[1:]:
        image, mask, *_ = line.split(",")
        put(str(tmp_path), {image: PHOTO, mask: ids_png([[0, 1, 255, 1]] * 2)})
    put(str(tmp_path), {"pairs.csv": text.encode()})
    rows = check(config_of(commands()[0], f"{tmp_path}/pairs.csv"))
    assert [(row["group"], row["frame"], row["split"]) for row in rows] == [
        ("drive_1", 0, "train"), ("drive_1", 10, "train"), ("drive_2", 0, "val"),
    ]  # fmt: skip
    assert [mask_of(row) for row in rows] == [[[0, 1, 255, 1]] * 2] * 3


def test_the_function_of_the_document_is_a_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [code] = blocks("python")
    (tmp_path / "my_layouts.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    for folder in ("day", "night"):
        for number in (10, 9):
            put(
                f"{tmp_path}/{folder}",
                {f"rgb/{number}.jpg": PHOTO, f"seg/{number}_ids.png": ids_png([[1, 0, 0, 1]] * 2)},
            )
    try:
        rows = check(config_of(commands()[1], str(tmp_path)))
    finally:
        sys.modules.pop("my_layouts", None)
    assert [(row["image_id"], row["frame"], row["split"]) for row in rows] == [
        ("day/rgb/9.jpg", 9, "train"), ("day/rgb/10.jpg", 10, "train"),
        ("night/rgb/9.jpg", 9, "val"), ("night/rgb/10.jpg", 10, "val"),
    ]  # fmt: skip
    assert [mask_of(row) for row in rows] == [[[1, 0, 0, 1]] * 2] * 4


def test_the_table_has_every_layout_and_only_presets_there_are() -> None:
    named = re.findall(r"^\| `(\w+)` \|", DOCUMENT, re.MULTILINE)
    assert sorted(named) == sorted(get_args(LayoutName))
    presets = set(re.findall(r"\b(?:cityscapes|camvid)_\w+", DOCUMENT))
    assert presets <= PRESETS.keys()
    assert presets


def test_the_pattern_of_the_document_finds_the_cities_of_cityscapes(tmp_path: Path) -> None:
    [pattern] = re.findall(r"`(leftImg8bit\S+\(\S+)`", DOCUMENT)
    draw_cityscapes(str(tmp_path))
    rows = rows_of(Config(data=DataSection(layout="cityscapes", root=str(tmp_path), group_pattern=pattern)))
    cities = [found[1] for row in rows if (found := re.search(pattern, row["image_id"]))]
    assert cities == ["aachen", "hamburg", "hamburg", "lindau", "berlin"]
