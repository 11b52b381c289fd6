"""What the code may not do, and what the names of other people's files may not do to us."""

import ast
import base64
import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.image_files import encode, gradient
from tests.unit.inline_table import begin, expected_rows, finish, keys
from tests.unit.listed_files import list_folder
from unet_ray import schema
from unet_ray.config_file import parse_config
from unet_ray.config_input import LabelsSection
from unet_ray.datasets.names import parse_frame
from unet_ray.labels.scheme import make_class_map
from unet_ray.report.run import run as report
from unet_ray.schema import OK, PREDICTION, QUARANTINED
from unet_ray.table.commit import QuarantineLimits, fill
from unet_ray.table.parts import Part, write_part
from unet_ray.table.plan import Plan, Unit
from unet_ray.table.read import open_table

# The code

REPOSITORY = Path(__file__).parents[2]
SHIPPED = sorted(path for folder in ("unet_ray", "jobs") for path in (REPOSITORY / folder).rglob("*.py"))
TESTS = sorted((REPOSITORY / "tests").rglob("*.py"))
RUNS_WHAT_IT_READS = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib", "pickletools"}
RUNS_TEXT = {"eval", "exec", "compile", "__import__", "breakpoint"}
SHELLS = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "pty.spawn"}


def offences(source: str) -> list[str]:
    """Return what a module does that could run text or data as code, or that ``python -O`` would leave out."""
    return [f"line {node.lineno}: {what}" for node in ast.walk(ast.parse(source)) if (what := offence(node))]


def offence(node: ast.AST) -> str | None:
    match node:
        case ast.Import(names=names) if RUNS_WHAT_IT_READS & {name.name.partition(".")[0] for name in names}:
            return "imports a module that runs what it reads"
        case ast.ImportFrom(module=str(module)) if module.partition(".")[0] in RUNS_WHAT_IT_READS:
            return "imports a module that runs what it reads"
        case ast.ImportFrom(module=str(module), names=names) if called_by_full_name(module, names):
            return "imports a name whose calls are checked by their full name"
        case ast.Assert(test=test) if not narrows(test):
            return "asserts what must hold without assertions, too"
        case ast.Call(func=func, keywords=keywords):
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in keywords}
            return call_offence(ast.unparse(func), given)
    return None


def called_by_full_name(module: str, names: Sequence[ast.alias]) -> bool:
    full = {f"{module}.{name.name}" for name in names}
    return bool(full & (SHELLS | {"torch.load", "subprocess.run"})) or any(
        re.fullmatch(r"yaml\.\w*load\w*", name) for name in full
    )


def call_offence(name: str, given: dict[str | None, str]) -> str | None:
    if name in RUNS_TEXT or name in SHELLS:
        return f"calls {name}"
    if name.startswith("yaml.") and name != "yaml.safe_dump" and "load" in name:
        return "loads YAML other than by strict_yaml"
    if name == "torch.load" and given.get("weights_only") != "True":
        return "torch.load without weights_only=True"
    if given.get("allow_pickle", "False") != "False":
        return "allows pickle"
    if given.get("shell", "False") != "False":
        return "starts a shell"
    if name.endswith("TorchCheckpoint") or ".get_model" in name:
        return "reads a pickled checkpoint of Ray"
    return None


def narrows(test: ast.expr) -> bool:
    """Tell whether an assertion only tells the type checker what is known."""
    match test:
        case ast.Call(func=ast.Name(id="isinstance")):
            return True
        case ast.Compare(ops=[ast.IsNot()], comparators=[ast.Constant(value=None)]):
            return True
    return False


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import os, cloudpickle as cp",
        "from dill import loads",
        "import marshal",
        "from shelve import open",
        "eval('1')",
        "exec(text)",
        "__import__(name)",
        "import yaml\nyaml.load(text, yaml.Loader)",
        "yaml.unsafe_load(text)",
        "yaml.full_load_all(text)",
        "yaml.safe_load(text)",
        "from yaml import load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=flag)",
        "from torch import load",
        "np.load(path, allow_pickle=True)",
        "subprocess.run(line, shell=True)",
        "subprocess.run(line, shell=flag)",
        "os.system('ls')",
        "from os import system",
        "TorchCheckpoint.from_directory(x).get_model()",
        "assert user == owner",
        "assert is_allowed(user)",
    ],
)
def test_the_checker_finds_what_it_looks_for(source: str) -> None:
    assert len(offences(source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "model.eval()",
        "re.compile(pattern)",
        "torch.load(path, weights_only=True)",
        "np.load(path, allow_pickle=False)",
        "subprocess.run(words, shell=False)",
        "yaml.safe_dump(document)",
        "assert isinstance(value, dict)",
        "assert value is not None",
    ],
)
def test_the_checker_lets_the_harmless_pass(source: str) -> None:
    assert offences(source) == []


def test_nothing_we_ship_runs_data_as_code() -> None:
    assert len(SHIPPED) > 50
    found = {str(path.relative_to(REPOSITORY)): offences(path.read_text()) for path in SHIPPED}
    assert {path: list_ for path, list_ in found.items() if list_} == {}


def test_no_test_reads_files_by_pickle_or_starts_a_shell() -> None:
    """Tests assert, start scripts, and pickle what Ray will pickle; the rest holds for them, too."""
    allowed = ("asserts", "imports a module that runs", "loads YAML")
    found = [
        f"{path.name}: {what}"
        for path in TESTS
        for what in offences(path.read_text())
        if not what.partition(": ")[2].startswith(allowed)
    ]
    assert found == []


# The tables


def plain(kind: pa.DataType) -> bool:
    """Tell whether a type and all it is made of are Arrow's own: an extension type may hold pickled objects."""
    parts = [kind.field(index).type for index in range(kind.num_fields)]
    return not isinstance(kind, pa.BaseExtensionType) and all(map(plain, parts))


def test_tables_hold_plain_arrow_types_only(tmp_path: Path) -> None:
    for one in (schema.PLAN, schema.DATASET, schema.PREDICTION, schema.MANIFEST):
        assert all(plain(field.type) for field in one)
    assert not plain(pa.list_(pa.uuid()))
    finish(begin(str(tmp_path)))
    files = sorted(tmp_path.rglob("*.parquet"))
    assert len(files) > 3
    for path in files:
        stored = pq.read_schema(path)
        assert all(plain(field.type) for field in stored)
        assert b"ray.data" not in path.read_bytes()
    assert "ray.data" not in (tmp_path / "_delta_log" / "00000000000000000000.json").read_text()
    assert len(expected_rows()) == len(open_table(str(tmp_path)).read(["row_id"]))


# The names

HOSTILE_NAMES = [
    "..%2f..%2fetc%2fpasswd.png",
    "%2e%2e/up.png",
    "~.png",
    "~root/a.png",
    "$HOME.png",
    "$(touch pwned).png",
    "a;b|c&d.png",
    "-rf.png",
    "--gc.png",
    "con.png",
    "aux/nul.png",
    "_SUCCESS.json.png",
    "_seals/000000.json.png",
    "C:\\windows\\a.png",
    "a:b.png",
    "*.png",
    " .png",
    "a .png",
    ".hidden.png",
    "x" * 251 + ".png",
    unicodedata.normalize("NFC", "café.png"),
    unicodedata.normalize("NFD", "café.png"),
    "Case.png",
    "case.png",
    "<script>alert(1)<|script>.png",
    '"onerror=alert(1) x=".png',
    "'onload='alert(1).png",
    "javascript:alert(1).png",
    "&lt;img src=x&gt;.png",
    "{{ 7 * 7 }}{% raw %}.png",
    "]]>-->.png",
    "=cmd|' C calc'!A0.png",
    "two\nlines.png",
    "00:00:00 trained\r.png",
    "\x1b[2J\x1b]0;title\x07.png",
    "\u202egnp.exe.png",
    "\u2028.png",
]
"""Names a disk can hold."""

HOSTILE_KEYS = [
    "../../../etc/cron.d/x.png",
    "a/../../../b.png",
    "/etc/passwd.png",
    "//host/share.png",
    "nul\0byte.png",
    "y" * 300 + ".png",
    "</td></table><script>alert(1)</script>.png",
    "<img src=x onerror=alert(1)>.png",
    "<!-- -->.png",
]
"""Names that only an object store can hold."""

OUR_NAMES = re.compile(
    r"(_PLAN|_SUCCESS|config)\.json|_MANIFEST\.parquet|_plan/part-\d{5}-[0-9a-f]{16}\.parquet|_seals/\d{6}\.json"
    r"|data/\d{6}/[0-9a-f]+-\d+\.parquet|_delta_log/0{20}\.json"
)


class Structure(HTMLParser):
    """The elements and attribute names of a page, in order: what text must not be able to change."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, ...]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, *(name for name, _ in attrs)))

    def handle_comment(self, data: str) -> None:
        self.tags.append(("comment",))

    def handle_data(self, data: str) -> None:
        self.text += data


def job_on(folder: Path, names: Sequence[str], more_keys: Sequence[str]) -> Structure:
    """List frames of these names, plan, "predict" and report them; every third is quarantined. Return the page."""
    for name in names:
        path = folder / "frames" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(gradient(4, 6), "PNG"))
    listed, _ = list_folder(f"{folder}/frames", None)
    assert sorted(row["image_id"] for row in listed) == sorted(names)
    remote = [{"image_id": key, "image_uri": f"s3://frames/{key}", "group": key, "split": ""} for key in more_keys]
    out = f"{folder}/out/predictions"
    plan = begin(
        out,
        [*listed, *remote],
        settings={"predict.images": "frames", "predict.checkpoint": "0123", "scaling.precision": "fp32"},
        facts={
            **asdict(make_class_map(LabelsSection(classes=("road", "sky")))),
            "model": {"width": 1, "depth": 1},
            "mask_encoding": "raw",
            "estimator": None,
        },
    )
    fill(plan, lambda units: segment(plan, units, len(listed)), limits=QuarantineLimits(fraction=1.0))
    assert open_table(out).read(["image_id"])["image_id"].to_pylist() == [
        *(row["image_id"] for row in listed), *more_keys,
    ]  # fmt: skip
    config = parse_config({}, {"run.storage": str(folder), "run.name": "out"}, "test")
    report(config)
    return Structure(Path(config.report_uri, "index.html").read_text())


def segment(plan: Plan, units: Sequence[Unit], num_readable: int) -> Iterator[Part]:
    for unit in units:
        rows = []
        for planned in plan.read(unit):
            row: dict[str, Any] = {name: planned[name] for name in schema.IDENTITY}
            if row["row_id"] % 3 == 0 or row["row_id"] >= num_readable:
                what = f"mask {row['image_uri']}: cannot be read"
                rows.append(row | {"status": QUARANTINED, "error_code": "truncated", "error_message": what})
            else:
                mask = np.zeros((4, 6), np.uint8)
                rows.append(
                    row
                    | {
                        "status": OK,
                        "pred_mask": mask.tobytes(),
                        "height": 4,
                        "width": 6,
                        "class_pixels": [24, 0],
                        "confidence_sum": [6000, 0],
                        "entropy_sum": 5,
                    }
                )
        yield write_part(plan, [unit], pa.Table.from_pylist(rows, schema=PREDICTION))


def test_hostile_names_are_kept_to_the_byte_and_change_neither_paths_nor_the_page(tmp_path: Path) -> None:
    hostile = job_on(tmp_path / "hostile", HOSTILE_NAMES, HOSTILE_KEYS)
    groups = [parse_frame(name)[0] for name in HOSTILE_NAMES]
    harmless = job_on(
        tmp_path / "harmless",
        [f"folder_{groups.index(group)}/frame_{number:03}.png" for number, group in enumerate(groups)],
        [f"frame_{number:03}.png" for number in range(len(HOSTILE_NAMES), len(HOSTILE_NAMES) + len(HOSTILE_KEYS))],
    )
    assert hostile.tags == harmless.tags
    for key in HOSTILE_KEYS:
        assert key.replace("\0", "�") in hostile.text.replace("\0", "�")

    written = keys(f"{tmp_path}/hostile/out/predictions")
    assert [key for key in written if not OUR_NAMES.fullmatch(key)] == []
    assert len(written) == len(keys(f"{tmp_path}/harmless/out/predictions"))
    assert {path.name for path in (tmp_path / "hostile").iterdir()} == {"frames", "out"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["harmless", "hostile"]
    for path in (tmp_path / "hostile/out/predictions").rglob("*.json"):
        for line in path.read_text().splitlines() if "_delta_log" in path.parts else [path.read_text()]:
            json.loads(line)


def test_the_page_forbids_itself_everything_that_runs_but_its_own_script(tmp_path: Path) -> None:
    job_on(tmp_path, ["a.png", "b.png", "c.png"], [])
    html = (tmp_path / "out/report/index.html").read_text()
    policy = re.search(r'http-equiv="Content-Security-Policy"\s+content="([^"]*)"', html)
    assert policy
    allowed = dict(rule.strip().split(" ", 1) for rule in policy[1].split(";") if rule.strip())
    assert allowed.pop("default-src") == "'none'"
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert allowed.pop("script-src") == f"'sha256-{digest}'"
    assert allowed == {
        "style-src": "'unsafe-inline'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert html.index("Content-Security-Policy") < html.index("<style")
