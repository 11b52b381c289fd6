"""Exports opened by the libraries of other tools, each in an environment of its own that `uv` makes from its script.

What they need is of gigabytes and other versions than ours, so none of it is a dependency of this project.
"""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.unit.export_table import CLASSES, GOOD, listed, mask_of, publish
from unet_ray.export.run import run

READERS = Path(__file__).parent
EXPORTS_PAGE = READERS.parents[1] / "docs/exports.md"
UV = shutil.which("uv", path=str(Path(sys.executable).parent))

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.usefixtures("inline_tasks"),
    pytest.mark.skipif(UV is None, reason="uv is not beside this Python"),
]


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return publish(tmp_path_factory.mktemp("predictions"))


def read(script: str, *words: Path | str, cwd: Path) -> None:
    """Run a reader where `cwd` is also its home, so that nothing of it stays behind; uv keeps its own settings."""
    assert UV is not None
    cache = subprocess.run([UV, "cache", "dir"], capture_output=True, text=True, check=True).stdout.strip()
    settings = os.environ.get("XDG_CONFIG_HOME", str(Path.home() / ".config"))
    environment = {**os.environ, "HOME": str(cwd), "XDG_CONFIG_HOME": settings, "UV_CACHE_DIR": cache}
    environment["FIFTYONE_DO_NOT_TRACK"] = "true"
    environment.pop("PYTHONPATH", None)
    command = [UV, "run", "--quiet", "--python", sys.executable, "--script", READERS / script, *words]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def assert_names(masks: Path, rows: tuple[int, ...]) -> None:
    """Hold the names that a reader gives to pixels against the classes that were exported."""
    names = np.array(CLASSES.classes)
    with np.load(masks) as found:
        assert sorted(map(int, found)) == sorted(rows)
        for name in found:
            np.testing.assert_array_equal(found[name], names[mask_of(int(name))])


def test_datumaro_reads_a_voc_export(uri: str, tmp_path: Path) -> None:
    run(uri, str(tmp_path / "voc"), "voc", None)
    read("read_datumaro.py", tmp_path / "voc", "voc_segmentation", tmp_path / "masks.npz", cwd=tmp_path)
    assert_names(tmp_path / "masks.npz", GOOD)


def test_datumaro_reads_a_cvat_export(uri: str, tmp_path: Path) -> None:
    run(uri, str(tmp_path / "cvat"), "cvat", None)
    read_rows: list[int] = []
    for shard in (0, 1, 2):
        task = tmp_path / f"task-{shard}"
        with zipfile.ZipFile(tmp_path / f"cvat/masks-{shard:06d}.zip") as archive:
            archive.extractall(task)
        with zipfile.ZipFile(tmp_path / f"cvat/photos-{shard:06d}.zip") as photos:
            photos.extractall(task / "JPEGImages")
            rows = tuple(int(Path(name).stem) for name in photos.namelist())
        read("read_datumaro.py", task, "voc_segmentation", tmp_path / f"{shard}.npz", cwd=tmp_path)
        assert_names(tmp_path / f"{shard}.npz", rows)
        read_rows += rows
    assert read_rows == list(GOOD)


@pytest.mark.parametrize(("kind", "document"), [("coco_stuff", "annotations"), ("coco_panoptic", "panoptic")])
def test_datumaro_reads_a_coco_export_once_it_lies_as_coco_does(
    kind: str, document: str, uri: str, tmp_path: Path
) -> None:
    run(uri, str(tmp_path / "out"), "coco", None)
    folder, name = tmp_path / "coco/annotations", f"{kind.removeprefix('coco_')}_all"
    folder.mkdir(parents=True)
    shutil.copy(tmp_path / f"out/{document}.json", folder / f"{name}.json")
    shutil.copytree(tmp_path / "out/panoptic", folder / name)
    shutil.copytree(tmp_path / "out/images", tmp_path / "coco/images/all")
    read("read_datumaro.py", tmp_path / "coco", kind, tmp_path / "masks.npz", cwd=tmp_path)
    assert_names(tmp_path / "masks.npz", GOOD)


@pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="its MongoDB is for Linux on x86-64"
)
def test_fiftyone_reads_its_export_by_the_code_of_the_docs(uri: str, tmp_path: Path) -> None:
    run(uri, str(tmp_path / "out"), "fiftyone", None)
    (code,) = re.findall(r"```python\n(.*?fiftyone.*?)```", EXPORTS_PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "code.py").write_text(code, encoding="utf-8")
    read("read_fiftyone.py", tmp_path / "code.py", tmp_path / "masks.npz", tmp_path / "scores.json", cwd=tmp_path)
    assert_names(tmp_path / "masks.npz", GOOD)
    scores = json.loads((tmp_path / "scores.json").read_text())
    for row in listed(tmp_path / "out"):
        found = scores[Path(row["file"]).stem]
        assert found["group_name"] == row["group"]
        assert {name: found[name] for name in ("miou", "confidence")} == {
            name: float(row[name]) if row[name] else None for name in ("miou", "confidence")
        }
