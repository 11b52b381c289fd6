from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from unet_ray.config import Config, PredictSection, RunSection, ScalingSection
from unet_ray.config_file import dump_config, leaves, load_config, nearest, parse_config, sections
from unet_ray.config_input import DataSection, ImagesSection, LabelsSection
from unet_ray.config_training import AugmentSection, LossSection, OptimSection, TrainSection
from unet_ray.errors import ConfigError

REPOSITORY = Path(__file__).parents[2]
EXAMPLES = sorted((REPOSITORY / "jobs/configs").glob("*.yaml"))
NOTHING_LEFT_AT_ITS_DEFAULT = Config(
    run=RunSection(name="2024-01-01", storage="s3://bucket/runs", seed=7),
    data=DataSection(root="/data/café: x", masks=None, resize=(64, 96), split="group", val_fraction=1e-5),
    images=ImagesSection(max_pixels=10**6, frames="first", alpha=(255, 0, 9), bit_depth="reject", cmyk="reject"),
    labels=LabelsSection(classes=("null", "1", "road"), palette=((0, 0, 0), (1, 2, 3), (255, 0, 9)), ignore_ids=()),
    augment=AugmentSection(crop=(32, 48), scale=(0.5, 2.0)),
    loss=LossSection(class_weights=(1.0, 0.5, 0.0)),
    optim=OptimSection(lr=3e-4, clip_norm=None),
    train=TrainSection(patience=3),
    predict=PredictSection(mask_encoding="png", images="frames"),
    scaling=ScalingSection(predictors=2, precision="fp32"),
)


def rejection(document: Mapping[str, Any], flags: Mapping[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(document, flags or {}, "x.yaml")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_there_are_example_configurations() -> None:
    assert {path.name for path in EXAMPLES} >= {"camvid.yaml", "smoke.yaml"}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_loads_and_its_run_is_called_like_the_file(path: Path) -> None:
    assert load_config(str(path)).run.name == path.stem


def test_an_empty_document_and_empty_sections_give_the_defaults() -> None:
    assert parse_config({}, {}, "x.yaml") == Config()
    assert parse_config({name: None for name, _ in sections()}, {}, "x.yaml") == Config()


@pytest.mark.parametrize(
    "config",
    [Config(), NOTHING_LEFT_AT_ITS_DEFAULT, *(load_config(str(path)) for path in EXAMPLES)],
    ids=["defaults", "nothing default", *(path.stem for path in EXAMPLES)],
)
def test_a_configuration_comes_back_from_its_own_yaml(config: Config, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(config), encoding="utf-8")
    assert load_config(str(path)) == config


def test_every_option_has_a_help_text_of_one_sentence_at_least() -> None:
    helps = {key: doc for key, _, doc in leaves()}
    assert len(helps) <= 160
    assert [key for key, doc in helps.items() if not doc.endswith(".") or "\n" in doc or len(doc) < 10] == []
    assert [name for name, cls in sections() if not (cls.__doc__ or "").endswith(".")] == []


def test_every_option_can_be_given_as_a_flag_in_the_words_of_its_default() -> None:
    flags = {key: yaml.safe_dump(item.default).removesuffix("...\n").strip() for key, item, _ in leaves()}
    texts = {key: item.default for key, item, _ in leaves() if isinstance(item.default, str)}
    assert parse_config({}, flags | texts, "x.yaml") == Config()


def test_flags_win_over_the_file_and_the_file_over_the_defaults() -> None:
    config = parse_config({"optim": {"lr": 0.1, "weight_decay": 0.2}}, {"optim.lr": "0.3"}, "x.yaml")
    assert config.optim == OptimSection(lr=0.3, weight_decay=0.2)


def test_a_document_is_not_changed_by_the_flags_on_top_of_it() -> None:
    document = {"optim": {"lr": 0.1}}
    parse_config(document, {"optim.lr": "0.3"}, "x.yaml")
    assert document == {"optim": {"lr": 0.1}}


def test_a_learning_rate_needs_no_decimal_point() -> None:
    assert parse_config(yaml.safe_load("optim: {lr: 3e-4}"), {}, "x.yaml").optim.lr == 3e-4
    assert parse_config({}, {"optim.lr": "3e-4"}, "x.yaml").optim.lr == 3e-4


@pytest.mark.parametrize("name", ["123", "2024-01-01", "on", "1e3", "2024-13-45"])
def test_a_text_flag_is_taken_as_it_was_typed(name: str) -> None:
    assert parse_config({}, {"run.name": name}, "x.yaml").run.name == name


def test_a_flag_can_take_an_option_of_the_file_back_to_null() -> None:
    document = {"data": {"root": "frames", "resize": [64, 64]}, "optim": {"clip_norm": 1}}
    flags = {"data.root": "null", "data.resize": "null", "optim.clip_norm": "null"}
    config = parse_config(document, flags, "x.yaml")
    assert (config.data.root, config.data.resize, config.optim.clip_norm) == (None, None, None)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("optm: {lr: 3}", "optm: no such key; did you mean optim?"),
        ("epochs: {a: 3}", "epochs: no such key; did you mean train.epochs?"),
        ("optim: {lrr: 3}", "optim.lrr: no such key; did you mean optim.lr?"),
        ("optim: {zzzzz: 3}", "optim.zzzzz: no such key"),
        ("optim: {1: 3}", "optim.1: keys should be strings, got 1"),
        ("optim: 3", "optim: must be a section of key: value lines, got a value (int)"),
        ("train: {epochs: abc}", "train.epochs: input should be a valid integer, "),
        ("train: {epochs: 2.5}", "train.epochs: input should be a valid integer, got a number with a fractional part"),
        ("train: {epochs: [2]}", "train.epochs: input should be a valid integer, got [2]"),
        ("train: {epochs: null}", "train.epochs: input should be a valid integer, got None"),
        ("run: {name: 12}", "run.name: input should be a valid string, got 12"),
        ("run: {name: a/b}", "run.name: must be letters, digits, '-', '_' and '.' (not first), got 'a/b'"),
        (
            "data: {layout: cmavid}",
            "data.layout: must be one of folder, list, camvid, cityscapes, pairs, voc,",
        ),
        ("data: {resize: 64}", "data.resize: input should be a valid list, got 64"),
        ("data: {resize: [64]}", "data.resize: too few values, got [64]"),
        ("data: {resize: [64, 64, 64]}", "data.resize: list should have at most 2 items"),
        ("data: {resize: [8, 64]}", "data.resize: must be a height and a width >= 16 px, got (8, 64)"),
        ("images: {alpha: white}", "images.alpha: input should be 'drop' or 'reject', got 'white'"),
        ("images: {frames: all}", "images.frames: input should be 'reject' or 'first', got 'all'"),
        ("labels: {palette: [[1, 2]]}", "labels.palette: too few values, got [1, 2]"),
        ("labels: {classes: [road, 1]}", "labels.classes: input should be a valid string, got 1"),
        ("loss: {class_weights: foo}", "loss.class_weights: input should be 'none', 'median' or 'sqrt', got 'foo'"),
        ("optim: {kind: adamax}", "optim.kind: input should be 'adamw', 'adam', 'sgd' or 'rmsprop', got 'adamax'"),
        ("train: {metric: loss}", "train.metric: input should be 'miou', 'object_miou', 'pixel_accuracy' or 'train_l"),
        ("scaling: {precision: fp8}", "scaling.precision: input should be 'auto', 'bf16', 'fp16' or 'fp32', got 'fp8'"),
        ("optim: {lr: 0}", "optim.lr: must be > 0, got 0.0"),
        ("optim: {lr: .nan}", "optim.lr: input should be a finite number, got nan"),
        ("optim: {weight_decay: .inf}", "optim.weight_decay: input should be a finite number, got inf"),
    ],
)
def test_what_is_wrong_in_a_file_is_named_with_its_key(document: str, message: str) -> None:
    assert rejection(yaml.safe_load(document)).startswith(f"x.yaml: {message}")


@pytest.mark.parametrize(
    ("key", "typed", "message"),
    [
        ("optim.lr", "-1", "--optim.lr: must be > 0, got -1.0"),
        ("optim.lr", "abc", "--optim.lr: input should be a valid number, "),
        ("optim.lr", "[1", "--optim.lr: not a YAML value: '[1'"),
        ("optim.lr", "2024-13-45", "--optim.lr: not a YAML value: '2024-13-45'"),
        (
            "data.layout",
            "cmavid",
            "--data.layout: must be one of folder, list, camvid, cityscapes, pairs, voc,",
        ),
        ("data.resize", "[8, 64]", "--data.resize: must be a height and a width >= 16 px, got (8, 64)"),
    ],
)
def test_what_is_wrong_in_a_flag_is_named_as_it_was_typed(key: str, typed: str, message: str) -> None:
    assert rejection({key.partition(".")[0]: {}}, {key: typed}).startswith(message)


def test_a_fault_in_the_file_is_not_blamed_on_a_flag_beside_it() -> None:
    assert rejection({"optim": {"lr": -1}}, {"optim.weight_decay": "0"}).startswith("x.yaml: optim.lr:")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"- data\n- train\n", "must hold sections such as data: and train:, got list"),
        (b"data: [1\n", "not valid YAML: line 2: expected ',' or ']', but got '<stream end>'"),
        (b"run:\n  name: 2024-13-45\n", "not valid YAML: line 2: not a number or date that can be read; quote it"),
        (b"\xff\xfe", "not valid YAML: 'utf-8' codec can't decode byte 0xff in position 0"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_config(str(path))
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "\n" not in str(caught.value)


SECRET = "wJalrXUtnFEMI"


@pytest.mark.parametrize(
    "uri",
    [
        f"s3://key:{SECRET}@bucket/runs",
        f"https://user:{SECRET}@store.example/bucket",
        f"S3://{SECRET}@bucket",
        f"https://store/bucket/a?X-Amz-Credential={SECRET}&X-Amz-Signature={SECRET}",
        f"s3://bucket/a?versionId=1&x-amz-signature={SECRET}",
        f"https://store/a?AWSAccessKeyId=a&Signature={SECRET}",
    ],
)
@pytest.mark.parametrize(
    "key",
    ["run.storage", "data.root", "data.dataset", "labels.centroids", "model.encoder_weights"]
    + [f"predict.{name}" for name in ("images", "masks", "output", "checkpoint")],
)
def test_a_location_that_carries_a_secret_is_refused_without_repeating_it(key: str, uri: str) -> None:
    section, _, name = key.partition(".")
    for message in (rejection({section: {name: uri}}), rejection({}, {key: uri})):
        assert f"{key}: holds a password or a signature" in message
        assert SECRET not in message


@pytest.mark.parametrize("uri", ["s3://bucket/a@b/c", "/data/a@b:c", "s3://bucket/what?", "runs/x?Signature", "a@b"])
def test_an_at_sign_or_a_question_mark_in_a_key_is_no_secret(uri: str) -> None:
    assert parse_config({"data": {"root": uri}}, {}, "x.yaml").data.root == uri


@pytest.mark.parametrize(
    "document",
    [
        f"AWS_SECRET_ACCESS_KEY: {SECRET}",
        f"aws: {{secret_access_key: {SECRET}}}",
        f"run: {{aws_secret_access_key: {SECRET}}}",
        f"data: {{AWS_SESSION_TOKEN: {SECRET}}}",
        f"run: {SECRET}",
    ],
)
def test_a_credential_in_the_file_is_refused_without_repeating_it(document: str) -> None:
    message = rejection(yaml.safe_load(document))
    assert SECRET not in message
    assert document.startswith("run: w") or "credentials come from the environment (AWS_*)" in message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot read this configuration file: .*No such file"):
        load_config(f"{tmp_path}/none.yaml")


def test_outputs_lie_under_the_run_unless_they_are_placed() -> None:
    config = Config(run=RunSection(name="a", storage="s3://bucket/runs/"))
    assert config.dataset_uri == "s3://bucket/runs/a/dataset"
    assert config.train_uri == "s3://bucket/runs/a/train"
    assert config.predictions_uri == "s3://bucket/runs/a/predictions"
    assert config.report_uri == "s3://bucket/runs/a/report"
    placed = Config(data=DataSection(dataset="/d"), predict=PredictSection(output="/p"))
    assert (placed.dataset_uri, placed.predictions_uri) == ("/d", "/p")


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("optim.lrr", "; did you mean --optim.lr?"),
        ("optm.lr", "; did you mean --optim.lr?"),
        ("lr", "; did you mean --optim.lr?"),
        ("epoch", "; did you mean --train.epochs?"),
        ("optim", ""),
        ("zzz", ""),
    ],
)
def test_the_nearest_option_is_suggested_in_full(typed: str, hint: str) -> None:
    assert nearest(typed, prefix="--") == hint
