import time
from pathlib import Path

import pytest
import yaml

from unet_ray.config import Config
from unet_ray.config_file import dump_config, load_config, parse_config
from unet_ray.errors import ConfigError
from unet_ray.strict_yaml import MOST_BYTES, parse_yaml

SECRET = "wJalrXUtnFEMI"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing\n",
        "a: {b: [1, 2.5, yes, null, 2024-01-02]}\nc: 'x: y'\n",
        dump_config(Config()),
        "[1, 2]",
        "1e-3",
    ],
)
def test_a_plain_document_is_read_as_by_any_safe_reader(text: str) -> None:
    assert parse_yaml(text) == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: {c: 1, d: 2, c: 3}\n", "line 2: c is given twice"),
        ("a: 1\n'a': 2\n", "line 2: a is given twice"),
        ("a: &x 1\n", "line 1: anchors and aliases (&, *) are not read; write the value out"),
        ("a: 1\nb: *x\n", "line 2: anchors and aliases (&, *) are not read; write the value out"),
        ("a: !!python/object/apply:os.system [ls]\n", "line 1: tags (!) are not read"),
        ("a: !!bool x\n", "line 1: tags (!) are not read"),
        ("a: ! x\n", "line 1: tags (!) are not read"),
        ("[" * 9, "line 1: nested more than 8 levels deep"),
        ("{a: " * 5000, "line 1: nested more than 8 levels deep"),
        ("a:\n  b: 2024-13-45\n", "line 2: not a number or date that can be read; quote it where text is meant"),
        ("a: " + "9" * 5000, "line 1: not a number or date that can be read; quote it where text is meant"),
        ("a: 0x_", "line 1: not a number or date that can be read; quote it where text is meant"),
        ("? [1]\n: 2\n", "line 1: found unhashable key"),
        ("a: 1\n---\nb: 2\n", "line 2: but found another document"),
        ("a: \0", "character 4: special characters are not allowed"),
        (f"a: {SECRET}: b\n", "line 1: mapping values are not allowed here"),
        (f"a: '{SECRET}\n", "line 2: found unexpected end of stream"),
    ],
)
def test_what_no_configuration_needs_is_refused_with_its_line_and_without_its_value(text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        parse_yaml(text)
    assert str(caught.value) == message


def test_a_bomb_is_refused_before_it_grows(tmp_path: Path) -> None:
    laughs = "a: &a [lol, lol]\n" + "".join(
        f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    many_keys = "".join(f"k{number}: 1\n" for number in range(MOST_BYTES // 10))
    path = tmp_path / "x.yaml"
    started = time.monotonic()
    for text, message in (
        (laughs, "not valid YAML: line 1: anchors"),
        ("x" * (MOST_BYTES + 1), "larger than 131,072 bytes, which no configuration needs; check the path"),
        ("é" * MOST_BYTES, "larger than 131,072 bytes"),
        (many_keys, "k0: no such key"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError) as caught:
            load_config(str(path))
        assert str(caught.value).startswith(f"{path}: {message}")
    with pytest.raises(ConfigError, match="/dev/zero: larger than"):
        load_config("/dev/zero")
    assert time.monotonic() - started < 120


def test_a_flag_is_read_as_strictly() -> None:
    for typed in ("*x", "&x 1", "!!int 3", "{a: 1, a: 2}", "[" * 9):
        with pytest.raises(ConfigError, match=r"^--optim\.lr: not a YAML value"):
            parse_config({}, {"optim.lr": typed}, "x.yaml")
