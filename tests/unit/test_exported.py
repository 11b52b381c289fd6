"""Predicting from an ONNX file: the same masks as from its checkpoint, and files that are not to be run."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from tests.unit.exported_models import ESTIMATOR, REFERENCE, Pairs
from unet_ray.checkpoint import Checkpoint
from unet_ray.config_file import parse_config
from unet_ray.errors import CheckpointError, ConfigError
from unet_ray.exported import ExportedModel, find_model, load_model
from unet_ray.model.onnx_network import CPU, CUDA, MOST_BYTES, choose_provider
from unet_ray.model.segmented import Segmented
from unet_ray.model.segmenter import Segmenter
from unet_ray.model.views import make_views
from unet_ray.predict.plan import choose_arithmetic

pytestmark = pytest.mark.usefixtures("one_thread")

Break = Callable[[onnx.ModelProto], None]


@pytest.fixture
def file(exported_models: Pairs) -> str:
    """An exported model; not to be changed."""
    return exported_models["unet"].file


def load(uri: str) -> ExportedModel:
    model = find_model("nowhere", uri)
    assert isinstance(model, ExportedModel)
    return model


def segment(model: Checkpoint | ExportedModel, **options: object) -> list[Segmented]:
    """Segment images of three sizes, two of which the network cannot take as they are."""
    rng = np.random.default_rng(0)
    sizes = [(64, 96), (50, 70), (64, 96), (33, 61)]
    blocks = [rng.integers(256, size=(-(-height // 8), -(-width // 8), 3)) for height, width in sizes]
    images = [
        np.kron(block, np.ones((8, 8, 1)))[:height, :width].astype(np.uint8)
        for block, (height, width) in zip(blocks, sizes, strict=True)
    ]
    card = model.card
    segmenter = Segmenter(
        model.load_model(), card.mean, card.std, torch.device("cpu"), "fp32", measured=True, second=True,
        **options,  # type: ignore[arg-type]
    )  # fmt: skip
    return segmenter.segment(images)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("unet", {}),
        ("unet", {"most_pixels": 2000}),
        ("unet", {"views": make_views("both", (0.5, 1.0, 1.25))}),
        ("rich", {}),
        ("valid", {"most_pixels": 8000}),
        ("resnet18", {"views": make_views("horizontal", (1.0,))}),
    ],
)
def test_masks_are_those_of_the_checkpoint(name: str, options: dict[str, object], exported_models: Pairs) -> None:
    pair = exported_models[name]
    found, wanted = (segment(model, **options) for model in (load(pair.file), pair.checkpoint))
    for one, other in zip(found, wanted, strict=True):
        for plane in ("mask", "second"):
            assert (getattr(one, plane) != getattr(other, plane)).mean() < 1e-3
        for plane in ("confidence", "entropy"):
            assert np.abs(getattr(one, plane).astype(int) - getattr(other, plane)).max() <= 1
        assert len(np.unique(one.mask)) > 1


def test_a_file_has_all_that_its_checkpoint_has_for_prediction(exported_models: Pairs) -> None:
    checkpoint, model = exported_models["unet"].checkpoint, load(exported_models["unet"].file)
    assert model.card == checkpoint.card
    assert model.estimator == checkpoint.estimator == ESTIMATOR
    assert model.reference is not None
    assert model.reference.to_json() == REFERENCE.to_json()
    assert model.info.epoch == checkpoint.info.epoch
    assert model.info.model_sha256 != checkpoint.info.model_sha256
    assert load_model(model.info).info == model.info


def test_what_other_tools_add_to_the_metadata_is_passed_over(file: str, tmp_path: Path) -> None:
    copy = tmp_path / "model.onnx"
    copy.write_bytes(Path(file).read_bytes())
    edit(copy, lambda proto: proto.metadata_props.append(onnx.StringStringEntryProto(key="author", value="not JSON")))
    assert load(str(copy)).card == load(file).card


def test_a_file_that_changed_since_it_was_planned_is_refused(file: str, tmp_path: Path) -> None:
    copy = tmp_path / "model.onnx"
    copy.write_bytes(Path(file).read_bytes())
    info = load(str(copy)).info
    edit(copy, lambda proto: setattr(proto, "producer_name", "other"))
    with pytest.raises(CheckpointError, match=r"model\.onnx: the file changed since the job began"):
        load_model(info)


# Files that are not to be run


def edit(path: Path, change: Break) -> None:
    proto = onnx.load_model_from_string(path.read_bytes())
    change(proto)
    path.write_bytes(proto.SerializeToString())


def set_metadata(**values: object) -> Break:
    def change(proto: onnx.ModelProto) -> None:
        for entry in proto.metadata_props:
            if entry.key in values:
                entry.value = json.dumps(values[entry.key])

    return change


def drop_metadata(key: str) -> Break:
    def change(proto: onnx.ModelProto) -> None:
        (place,) = [place for place, entry in enumerate(proto.metadata_props) if entry.key == key]
        del proto.metadata_props[place]

    return change


def point_outside(tensor: TensorProto) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def in_attribute(proto: onnx.ModelProto) -> None:
    node = proto.graph.node.add(op_type="Constant", output=["unused"])
    node.attribute.append(helper.make_attribute("value", helper.make_tensor("hidden", TensorProto.FLOAT, [1], [1.0])))
    point_outside(node.attribute[0].t)


def in_branch(proto: onnx.ModelProto) -> None:
    tensor = helper.make_tensor("hidden", TensorProto.FLOAT, [1], [1.0])
    point_outside(tensor)
    branch = helper.make_graph([], "branch", [], [], initializer=[tensor])
    proto.graph.node.append(helper.make_node("If", ["image"], ["unused"], then_branch=branch, else_branch=branch))


def in_function(proto: onnx.ModelProto) -> None:
    function = proto.functions.add(name="f", domain="ai.onnx")
    node = helper.make_node("Constant", [], ["y"], value=helper.make_tensor("hidden", TensorProto.FLOAT, [1], [1.0]))
    point_outside(node.attribute[0].t)
    function.node.append(node)


def custom_operator(proto: onnx.ModelProto) -> None:
    proto.opset_import.append(helper.make_opsetid("com.example", 1))
    proto.graph.node[0].domain = "com.example"


def rename_input(proto: onnx.ModelProto) -> None:
    for node in proto.graph.node:
        for place, name in enumerate(node.input):
            if name == "image":
                node.input[place] = "x"
    proto.graph.input[0].name = "x"


def set_opset(version: int) -> Break:
    return lambda proto: setattr(proto.opset_import[0], "version", version)


SHAPE = r"it does not give logits of \d classes, 4 x 4 pixels, for RGB of \(1, 3, 4, 4\)"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop_metadata("unet_ray"), r"unet-ray export-model did not write this file; export a checkpoint with it"),
        (lambda proto: proto.ClearField("metadata_props"), r"unet-ray export-model did not write this file"),
        (drop_metadata("mean"), r"its metadata is damaged or of another unet-ray: .*mean.*export the checkpoint again"),
        (drop_metadata("estimator"), r"its metadata is damaged or of another unet-ray: .*estimator"),
        (set_metadata(std=[1, 2]), r"its metadata is damaged or of another unet-ray: .*std"),
        (set_metadata(model={"kind": "vit"}), r"its metadata is damaged or of another unet-ray: .*kind"),
        (set_metadata(model={"width": 0}), r"its metadata is damaged or of another unet-ray: model\.width: must be"),
        (set_metadata(reference=[1]), r"its metadata is damaged or of another unet-ray"),
        (set_metadata(epoch=float("inf")), r"its metadata is damaged or of another unet-ray"),
        (set_metadata(classes=["a", "b"], palette=[[0, 0, 0]] * 2), SHAPE + r", but \(1, 3, 4, 4\)"),
        (set_metadata(model={"width": 8, "depth": 1}), r"it does not give logits of 3 classes, 2 x 2 pixels"),
        (rename_input, SHAPE + ".*image"),
        (lambda proto: setattr(proto.graph.output[0], "name", proto.graph.node[0].output[0]), SHAPE),
        (lambda proto: point_outside(proto.graph.initializer[0]), r"its weights \('\S+'\) lie in another file"),
        (in_attribute, r"its weights \('hidden'\) lie in another file, and no file is read because a file says so"),
        (in_branch, r"its weights \('hidden'\) lie in another file"),
        (in_function, r"its weights \('hidden'\) lie in another file"),
        (custom_operator, r"it has operators of com\.example; only those of ONNX itself are run"),
        (set_opset(99), r"onnxruntime \S+ cannot run it: .*pset.*pip install -U 'unet-ray\[onnx\]'"),
        (lambda proto: setattr(proto, "ir_version", 99), r"onnxruntime \S+ cannot run it: .*IR version"),
        (lambda proto: setattr(proto.graph.node[0], "op_type", "Unheard"), r"onnxruntime \S+ cannot run it: .*Unheard"),
    ],
)
def test_files_that_are_not_ours_are_refused_in_a_line(
    file: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], change: Break, message: str
) -> None:
    copy = tmp_path / "model.onnx"
    copy.write_bytes(Path(file).read_bytes())
    edit(copy, change)
    with pytest.raises(CheckpointError, match=rf"^{copy}: {message}") as raised:
        load(str(copy)).load_model()
    assert "\n" not in str(raised.value)
    assert capfd.readouterr().err == ""


def test_every_part_of_a_file_is_refused(file: str, tmp_path: Path) -> None:
    data, copy = Path(file).read_bytes(), tmp_path / "model.onnx"
    for end in [*range(0, len(data), len(data) // 50), len(data) - 1]:
        copy.write_bytes(data[:end])
        with pytest.raises(CheckpointError, match=rf"^{copy}: "):
            load(str(copy)).load_model()


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n", b"no onnx", bytes(100)])
def test_what_is_no_onnx_is_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=rf"^{path}: "):
        load(str(path))


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with path.open("wb") as sparse:
        sparse.truncate(MOST_BYTES + 1)
    with pytest.raises(CheckpointError, match=r"2,147,483,648 bytes; an ONNX file has 2,147,483,647 at most"):
        load(str(path))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"^predict\.checkpoint: .*model\.onnx.*; name a file that unet-ray"):
        load(f"{tmp_path}/model.onnx")


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime"])
def test_without_onnxruntime_the_error_says_how_to_install_it(
    file: str, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigError, match=r"onnxruntime, which is not installed: pip install 'unet-ray\[onnx\]'"):
        load(file)


# Where and how it runs


@pytest.mark.parametrize(("asked", "given"), [("auto", "fp32"), ("fp32", "fp32"), ("bf16", None), ("fp16", None)])
def test_an_exported_model_computes_in_fp32(file: str, asked: str, given: str | None) -> None:
    config = parse_config({"scaling": {"precision": asked}}, {}, "test")
    if given is not None:
        assert choose_arithmetic(config, load(file), "cpu") == given
        return
    with pytest.raises(ConfigError, match=rf"^scaling\.precision: must be auto or fp32 for .*; got {asked}"):
        choose_arithmetic(config, load(file), "cpu")


def test_cuda_is_taken_where_onnxruntime_has_it_and_missed_aloud_where_not(
    file: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import onnxruntime

    config = parse_config({}, {}, "test")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU])
    with caplog.at_level("INFO"):
        choose_arithmetic(config, load(file), "gpu")
    assert caplog.messages[0] == "onnxruntime runs the network: CPUExecutionProvider"
    assert "GPUs stay idle: install onnxruntime-gpu" in caplog.messages[1]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    assert choose_provider(torch.device("cuda")) == CUDA
    assert choose_provider(torch.device("cpu")) == CPU


@pytest.mark.parametrize("threads", [1, 2])
def test_it_has_the_threads_of_torch(file: str, threads: int) -> None:
    torch.set_num_threads(threads)
    try:
        network = load(file).load_model()
    finally:
        torch.set_num_threads(1)
    options = network._session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (threads, 1)


HUNGRY = """
import logging, resource, sys, numpy as np, torch
from unet_ray.errors import ResourceError
from unet_ray.exported import find_model
from unet_ray.model.segmenter import Segmenter
logging.basicConfig(format="%(message)s")
torch.set_num_threads(1)
model = find_model("", sys.argv[1])
images = [np.full((512, 512, 3), 9, np.uint8)] * 4
segmenter = Segmenter(model.load_model(), *2 * [(50.0,) * 3], torch.device("cpu"), "fp32", most_pixels=2**40)
segmenter.segment([images[0][:64, :64]])
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 90 * 2**20, -1))
found = segmenter.segment(images)
print(len(found), found[0].mask.shape, segmenter._most_pixels < 2**20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits its own memory as Linux does")
def test_without_enough_memory_it_goes_on_with_less_at_a_time(file: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HUNGRY, file], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": "."}
    )
    assert done.stdout == "4 (512, 512) True\n", done.stderr
    assert "out of memory: going on with" in done.stderr
