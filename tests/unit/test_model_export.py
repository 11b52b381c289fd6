"""Networks as files: that they are the networks of their checkpoints, and stand on their own."""

import ast
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from tests.unit.exported_models import ESTIMATOR, MODELS, REFERENCE, Pairs
from tests.unit.image_files import encode
from unet_ray import __version__, model_export, storage
from unet_ray.checkpoint import Checkpoint
from unet_ray.cli import main
from unet_ray.errors import CheckpointError, ConfigError
from unet_ray.exported import make_metadata
from unet_ray.model import portable
from unet_ray.model.portable import OPSET

pytestmark = pytest.mark.usefixtures("one_thread")

DOCUMENT = (Path(__file__).parents[2] / "docs/model-export.md").read_text()
SHAPES = [(1, (0, 0)), (3, (2, 1)), (2, (5, 3))]
"""Batches, and steps of height and width above the smallest ones."""
MOST_DIFFERENCE = 1e-4
"""Between logits, whose standard deviation is about 1: other orders of adding up in fp32."""


def make_images(checkpoint: Checkpoint, batch: int, steps: tuple[int, int]) -> NDArray[np.float32]:
    """Return images of the smallest size and so many steps more."""
    sizes = checkpoint.card.model.sizes
    sides = [sizes.smallest + step * sizes.stride + 2 * sizes.margin for step in steps]
    colours = np.random.default_rng(0).integers(256, size=(batch, 3, *sides))
    return colours.astype(np.float32)


def wanted_logits(checkpoint: Checkpoint, images: NDArray[np.float32]) -> NDArray[np.float32]:
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (checkpoint.card.mean, checkpoint.card.std))
    with torch.no_grad():
        logits: NDArray[np.float32] = checkpoint.load_model().eval()(torch.from_numpy((images - mean) / std)).numpy()
    return logits


def same(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> bool:
    """Tell whether logits are the same, and so are classes where no two are as near as the logits may differ."""
    ranked = np.sort(wanted, axis=1)
    clear = ranked[:, -1] - ranked[:, -2] > 2 * MOST_DIFFERENCE
    assert clear.mean() > 0.99
    alike = found.argmax(1) == wanted.argmax(1)
    return found.shape == wanted.shape and bool(np.abs(found - wanted).max() < MOST_DIFFERENCE and alike[clear].all())


@pytest.mark.parametrize("name", list(MODELS))
def test_onnx_files_give_the_logits_of_the_network_at_any_size_and_batch(name: str, exported_models: Pairs) -> None:
    pair = exported_models[name]
    session = onnxruntime.InferenceSession(pair.file)
    for batch, steps in SHAPES:
        images = make_images(pair.checkpoint, batch, steps)
        (found,) = session.run(["logits"], {"image": images})
        assert same(found, wanted_logits(pair.checkpoint, images))


@pytest.mark.parametrize("name", list(MODELS))
def test_programs_of_torch_do_so_too(name: str, exported_models: Pairs, tmp_path: Path) -> None:
    checkpoint = exported_models[name].checkpoint
    file = Path(model_export.run(checkpoint.info.uri, f"{tmp_path}/model.pt2").file)
    network = torch.export.load(file).module()
    for batch, steps in SHAPES:
        images = make_images(checkpoint, batch, steps)
        assert same(network(torch.from_numpy(images)).numpy(force=True), wanted_logits(checkpoint, images))
    with zipfile.ZipFile(file) as archive:
        assert not [name for name in archive.namelist() if quotes_this_machine(archive.read(name))]


@pytest.mark.parametrize("name", list(MODELS))
def test_onnx_files_hold_folded_weights_and_no_notes(name: str, exported_models: Pairs) -> None:
    pair = exported_models[name]
    data = Path(pair.file).read_bytes()
    proto = onnx.load_model_from_string(data)
    onnx.checker.check_model(proto, full_check=True)
    assert [(one.domain, one.version) for one in proto.opset_import] == [("", OPSET)]
    assert not {node.op_type for node in proto.graph.node} & {"BatchNormalization", "Dropout", "If", "Loop"}
    axes = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*proto.graph.input, *proto.graph.output)
    }
    assert axes == {"image": ["batch", 3, "height", "width"], "logits": ["batch", 3, "out_height", "out_width"]}
    weights = [tensor.name for tensor in proto.graph.initializer if len(tensor.dims) == 4]
    network = pair.checkpoint.load_model()
    unused = {name for name, _ in network.coarse_heads.named_modules(prefix="coarse_heads")}
    convolutions = [
        name for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and name not in unused
    ]  # fmt: skip
    assert len(weights) == len(convolutions)
    assert not quotes_this_machine(data)


def quotes_this_machine(data: bytes) -> bool:
    places = (str(Path.cwd()), str(Path(torch.__file__).parent), "site-packages", "unet_ray/model")
    return any(place.encode() in data for place in places)


# The command


@pytest.fixture
def plain(exported_models: Pairs) -> Checkpoint:
    return exported_models["unet"].checkpoint


def train_uri(checkpoint: Checkpoint) -> str:
    return checkpoint.info.uri.partition("/checkpoints/")[0]


@pytest.mark.parametrize("ending", ["onnx", "pt2"])
def test_a_file_says_all_that_its_checkpoint_says_of_the_network(
    plain: Checkpoint, ending: str, tmp_path: Path
) -> None:
    file = f"{tmp_path}/model.{ending}"
    found = model_export.run(train_uri(plain), file)
    data = Path(file).read_bytes()
    assert (found.file, found.checkpoint, found.size_bytes) == (file, plain.info.uri, len(data))
    if ending == "onnx":
        entries = onnx.load_model_from_string(data).metadata_props
        about = {entry.key: json.loads(entry.value) for entry in entries}
    else:
        files = {portable.PT2_METADATA: ""}
        torch.export.load(file, extra_files=files)
        about = json.loads(files[portable.PT2_METADATA])
    assert about == json.loads(json.dumps(make_metadata(plain)))
    assert about["classes"] == ["road", "sky", "car"]
    assert about["palette"][1] == [0, 0, 255]
    assert about["recovery"]["read"] == plain.card.class_map.recovery.read
    assert (about["mean"], about["std"], about["input_size"]) == ([110.25, 99.0, 80.5], [50.0, 51.0, 52.0], [96, 128])
    assert about["model"]["width"] == 8
    assert about["sizes"] == {"stride": 4, "smallest": 4, "margin": 0}
    assert about["estimator"] == asdict(ESTIMATOR)
    assert (about["unet_ray"], about["checkpoint_sha256"]) == (__version__, plain.info.model_sha256)
    assert about["reference"] == REFERENCE.to_json()
    assert (about["epoch"], about["background"]) == (3, None)
    keys = set(DOCUMENT.split("## What a file says of itself")[1].split("## Prediction")[0].split("`"))
    assert set(about) <= keys


def test_the_command_repeats_a_file_and_replaces_no_other(
    exported_models: Pairs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(Path(exported_models["unet"].file).read_bytes())
    uri = exported_models["unet"].checkpoint.info.uri
    assert main(["export-model", f"{uri}/", str(file)]) == 0
    assert json.loads(capsys.readouterr().out)["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    file.write_bytes(b"something else")
    assert main(["export-model", uri, str(file)]) == 2
    assert "model.onnx: an object with other content is there" in capsys.readouterr().err
    assert file.read_bytes() == b"something else"


@pytest.mark.parametrize("file", ["model", "model.pt", "model.ONNX", "model.onnx/"])
def test_other_endings_are_refused_before_anything_is_read(file: str) -> None:
    with pytest.raises(ConfigError, match=r"^export-model: \S+ must end in \.onnx or \.pt2"):
        model_export.run("nowhere", file)


def test_without_a_checkpoint_there_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint here"):
        model_export.run(str(tmp_path), f"{tmp_path}/model.onnx")
    assert not storage.exists(f"{tmp_path}/model.onnx")


def test_what_onnx_cannot_hold_is_named(plain: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portable, "MOST_BYTES", 1000)
    with pytest.raises(ConfigError, match=r"bytes of weights; an ONNX file has 1,000 at most: write \.pt2"):
        model_export.run(plain.info.uri, f"{tmp_path}/model.onnx")
    model_export.run(plain.info.uri, f"{tmp_path}/model.pt2")


@pytest.mark.parametrize("missing", ["onnx", "onnxscript"])
def test_without_its_packages_the_error_says_how_to_install_them(
    plain: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigError, match=r"not installed: pip install 'unet-ray\[onnx\]'"):
        model_export.run(plain.info.uri, f"{tmp_path}/model.onnx")


def test_every_process_writes_the_same_bytes(plain: Checkpoint, tmp_path: Path) -> None:
    script = """
import sys
from unet_ray.model_export import run
print([run(sys.argv[1], f"{sys.argv[2]}.{ending}").sha256 for ending in ("onnx", "pt2")])
"""
    shown = [
        subprocess.run(
            [sys.executable, "-c", script, plain.info.uri, f"{tmp_path}/{seed}"],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": "."}, capture_output=True, text=True, check=True,
        ).stdout
        for seed in "12"
    ]  # fmt: skip
    assert len(set(shown)) == 1


# The examples of the document, in processes that have no unet-ray

BLOCKER = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("unet_ray", "ray"):
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocker())
"""


@pytest.fixture
def run_example(tmp_path: Path) -> Callable[[str, str], str]:
    """Give a function that runs the example with a word in it, and more, where its files are."""
    (tmp_path / "frame.png").write_bytes(
        encode(np.random.default_rng(1).integers(256, size=(50, 70, 3), dtype=np.uint8), "PNG")
    )
    examples = [part.partition("```")[0] for part in DOCUMENT.split("```python\n")[1:]]

    def run(word: str, more: str) -> str:
        (example,) = [text for text in examples if word in text]
        done = subprocess.run(
            [sys.executable, "-c", BLOCKER + example + more], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_the_example_counts_the_pixels_of_classes(
    plain: Checkpoint, tmp_path: Path, run_example: Callable[[str, str], str]
) -> None:
    model_export.run(plain.info.uri, f"{tmp_path}/camvid.onnx")
    shown = run_example("onnxruntime", "\nprint(mask.shape)")
    counts, shape = shown.splitlines()
    assert shape == "(48, 68)"
    assert sum(ast.literal_eval(counts).values()) == 3264


def test_a_program_of_torch_runs_without_us(
    plain: Checkpoint, tmp_path: Path, run_example: Callable[[str, str], str]
) -> None:
    model_export.run(plain.info.uri, f"{tmp_path}/camvid.pt2")
    shown = run_example("torch.export.load", "\nprint(tuple(logits.shape), about['classes'], float(logits.std()) > 0)")
    assert shown == "(1, 3, 352, 480) ['road', 'sky', 'car'] True\n"
