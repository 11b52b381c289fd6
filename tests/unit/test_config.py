import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from unet_ray.config import Config, PredictSection, ReportSection, RunSection, ScalingSection
from unet_ray.config_file import dump_config, leaves, load_config, nearest, parse_config, sections
from unet_ray.config_input import DataSection, ImagesSection, LabelsSection, SyntheticSection
from unet_ray.config_training import AugmentSection, LossSection, ModelSection, OptimSection, TrainSection
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
    assert len(helps) < 160
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
    ("section", "values", "message"),
    [
        (RunSection, {"name": ""}, "run.name: must be letters"),
        (RunSection, {"name": ".hidden"}, "run.name: must be letters"),
        (RunSection, {"name": ".."}, "run.name: must be letters"),
        (RunSection, {"name": "café"}, "run.name: must be letters"),
        (RunSection, {"storage": ""}, "run.storage: must be a folder or an s3:// URI, got ''"),
        (RunSection, {"seed": -1}, "run.seed: must be >= 0, got -1"),
        (DataSection, {"val_fraction": 1}, "data.val_fraction: must be in [0, 1), got 1"),
        (DataSection, {"test_fraction": -0.1}, "data.test_fraction: must be in [0, 1), got -0.1"),
        (
            DataSection,
            {"val_fraction": 0.5, "test_fraction": 0.5},
            "data.test_fraction: must be below 1 together with data.val_fraction, got 1.0",
        ),
        (DataSection, {"shard_rows": 0}, "data.shard_rows: must be >= 1, got 0"),
        (DataSection, {"max_quarantined_fraction": 1.1}, "data.max_quarantined_fraction: must be in [0, 1], got 1.1"),
        (ImagesSection, {"max_pixels": 0}, "images.max_pixels: must be in 1..178956970, got 0"),
        (ImagesSection, {"max_pixels": 178_956_971}, "images.max_pixels: must be in 1..178956970, got 178956971"),
        (ImagesSection, {"max_bytes": 0}, "images.max_bytes: must be >= 1, got 0"),
        (ImagesSection, {"alpha": (0, 0, 256)}, "images.alpha: must be RGB values in 0..255, got (0, 0, 256)"),
        (SyntheticSection, {"sequences": 0}, "synthetic.sequences: must be >= 1, got 0"),
        (SyntheticSection, {"frames": 0}, "synthetic.frames: must be >= 1, got 0"),
        (SyntheticSection, {"height": 47}, "synthetic.height: must be >= 48 px, got 47"),
        (SyntheticSection, {"width": 63}, "synthetic.width: must be >= 64 px, got 63"),
        (
            LabelsSection,
            {"classes": ("a", "b", "a")},
            "labels.classes: must be names used once each, got ['a', 'b', 'a']",
        ),
        (LabelsSection, {"classes": tuple(map(str, range(256)))}, "labels.classes: must be at most 253 names, got 256"),
        (
            LabelsSection,
            {"palette": ((0, 0, 256),)},
            "labels.palette: must be RGB values in 0..255, got ((0, 0, 256),)",
        ),
        (LabelsSection, {"ignore_ids": (65536,)}, "labels.ignore_ids: must be mask values in 0..65535, got (65536,)"),
        (ModelSection, {"width": 0}, "model.width: must be in 1..512, got 0"),
        (ModelSection, {"depth": 8}, "model.depth: must be in 1..7, got 8"),
        (ModelSection, {"dropout": 1}, "model.dropout: must be in [0, 1), got 1"),
        (
            ModelSection,
            {"kind": "resnet34", "depth": 3},
            "model.depth: must be left out for resnet34, which halves five times, got 3",
        ),
        (
            ModelSection,
            {"kind": "resnet18", "norm": "none"},
            "model.norm: must be a normalisation for resnet18, got 'none'",
        ),
        (ModelSection, {"kind": "resnet18", "residual": True}, "model.residual: must be false for resnet18, got True"),
        (
            ModelSection,
            {"encoder_weights": "w.pth"},
            "model.encoder_weights: must be null for unet: only resnet18, resnet34 and resnet50 have an encoder of",
        ),
        (
            ModelSection,
            {"kind": "unet_valid", "upsampling": "bilinear"},
            "model.upsampling: must be transposed for unet_valid: interpolation would look beyond the edge of a tile",
        ),
        (
            ModelSection,
            {"kind": "unet_valid", "deep_supervision": True},
            "model.deep_supervision: must be false for unet_valid, whose levels show different parts of the image",
        ),
        (
            ModelSection,
            {"depth": 1, "deep_supervision": True},
            "model.deep_supervision: must be false at model.depth 1, which has no coarser level",
        ),
        (AugmentSection, {"crop": (16, 15)}, "augment.crop: must be a height and a width >= 16 px, got (16, 15)"),
        (
            AugmentSection,
            {"scale": (2.0, 1.0)},
            "augment.scale: must be two numbers, 0.1 <= low <= high <= 10, got (2.0",
        ),
        (AugmentSection, {"vflip": 1.5}, "augment.vflip: must be in [0, 1], got 1.5"),
        (
            AugmentSection,
            {"jpeg_quality": (90, 30)},
            "augment.jpeg_quality: must be two numbers, 1 <= low <= high <= 100, got (",
        ),
        (
            AugmentSection,
            {"blur_sigma": (0, 1)},
            "augment.blur_sigma: must be two numbers, 0.1 <= low <=",
        ),
        (
            AugmentSection,
            {"noise_std": (1, 129)},
            "augment.noise_std: must be two numbers, 0 <= low <=",
        ),
        (
            AugmentSection,
            {"sharpen_amount": (-1, 1)},
            "augment.sharpen_amount: must be two numbers, 0 <= low <= high <= 10, got (",
        ),
        (
            AugmentSection,
            {"cutout_size": (0, 0.5)},
            "augment.cutout_size: must be two numbers, 0.01 <= low <=",
        ),
        (AugmentSection, {"rotate": 181}, "augment.rotate: must be in [0, 180], got 181"),
        (AugmentSection, {"translate": 1.1}, "augment.translate: must be in [0, 1], got 1.1"),
        (AugmentSection, {"shear": 61}, "augment.shear: must be in [0, 60], got 61"),
        (AugmentSection, {"perspective": 0.25}, "augment.perspective: must be in [0, 0.2], got 0.25"),
        (AugmentSection, {"elastic": 2}, "augment.elastic: must be in [0, 1], got 2"),
        (AugmentSection, {"elastic_sigma": -1}, "augment.elastic_sigma: must be in [0, 100], got -1"),
        (AugmentSection, {"hue": -5}, "augment.hue: must be in [0, 180], got -5"),
        (AugmentSection, {"noise": 1.1}, "augment.noise: must be in [0, 1], got 1.1"),
        (AugmentSection, {"cutout": 65}, "augment.cutout: must be in [0, 64], got 65"),
        (AugmentSection, {"balance": -0.5}, "augment.balance: must be in [0, 1], got -0.5"),
        (LossSection, {"dice": -1}, "loss.dice: must be >= 0, got -1"),
        (LossSection, {"cross_entropy": -0.5}, "loss.cross_entropy: must be >= 0, got -0.5"),
        (
            LossSection,
            {"cross_entropy": 0, "dice": 0},
            "loss.cross_entropy: must be > 0 where dice, jaccard, focal and lovasz are 0, or nothing is minimised",
        ),
        (LossSection, {"label_smoothing": 1.0}, "loss.label_smoothing: must be in [0, 1), got 1.0"),
        (LossSection, {"focal_gamma": -1}, "loss.focal_gamma: must be >= 0, got -1"),
        (LossSection, {"ohem_fraction": 0}, "loss.ohem_fraction: must be in (0, 1], got 0"),
        (LossSection, {"ohem_fraction": 1.5}, "loss.ohem_fraction: must be in (0, 1], got 1.5"),
        (
            LossSection,
            {"ohem_fraction": 0.5, "cross_entropy": 0},
            "loss.ohem_fraction: must be left out where loss.cross_entropy and loss.focal are 0, got 0.5",
        ),
        (
            LossSection,
            {"border_classes": ("cell",), "cross_entropy": 0},
            "loss.border_classes: must be left out where loss.cross_entropy and loss.focal are 0, got ('cell',)",
        ),
        (LossSection, {"border_weight": 0}, "loss.border_weight: must be in (0, 10000], got 0"),
        (LossSection, {"border_sigma": -1}, "loss.border_sigma: must be in (0, 100] px, got -1"),
        (LossSection, {"class_weights": ()}, "loss.class_weights: must be one number >= 0 per class, got ()"),
        (LossSection, {"class_weights": (1.0, -1.0)}, "loss.class_weights: must be one number >= 0 per class, got (1"),
        (LossSection, {"class_weights": (0.0, 0.0)}, "loss.class_weights: must be > 0 for a class at least, got (0.0"),
        (OptimSection, {"warmup_fraction": 1}, "optim.warmup_fraction: must be in [0, 1), got 1"),
        (OptimSection, {"final_lr_fraction": 2}, "optim.final_lr_fraction: must be in [0, 1], got 2"),
        (OptimSection, {"clip_norm": 0}, "optim.clip_norm: must be > 0 or null, got 0"),
        (OptimSection, {"momentum": 1.0}, "optim.momentum: must be in [0, 1), got 1.0"),
        (OptimSection, {"encoder_lr_factor": -0.1}, "optim.encoder_lr_factor: must be in [0, 1], got -0.1"),
        (OptimSection, {"ema_decay": 1.0}, "optim.ema_decay: must be between 0 and 1, or null, got 1.0"),
        (OptimSection, {"ema_decay": 0.0}, "optim.ema_decay: must be between 0 and 1, or null, got 0.0"),
        *(
            (
                OptimSection,
                {"milestones": milestones},
                f"optim.milestones: must be increasing numbers between 0 and 1, got {milestones}",
            )
            for milestones in ((0.6, 0.6), (0.8, 0.6), (0.0, 0.5), (0.5, 1.0))
        ),
        (TrainSection, {"accumulate": 0}, "train.accumulate: must be >= 1, got 0"),
        (TrainSection, {"checkpoint_every_steps": 0}, "train.checkpoint_every_steps: must be >= 1 or null, got 0"),
        (TrainSection, {"epochs": 0}, "train.epochs: must be >= 1, got 0"),
        (TrainSection, {"batch_size": 0}, "train.batch_size: must be >= 1, got 0"),
        (TrainSection, {"eval_every": 0}, "train.eval_every: must be >= 1, got 0"),
        (TrainSection, {"patience": 0}, "train.patience: must be >= 1 or null, got 0"),
        (TrainSection, {"max_failures": -1}, "train.max_failures: must be >= 0, got -1"),
        (PredictSection, {"batch_size": 0}, "predict.batch_size: must be >= 1, got 0"),
        (PredictSection, {"shard_rows": 0}, "predict.shard_rows: must be >= 1, got 0"),
        (ReportSection, {"panels": 21}, "report.panels: must be in 0..20, got 21"),
        (ScalingSection, {"num_workers": 0}, "scaling.num_workers: must be >= 1, got 0"),
        (ScalingSection, {"predictors": 0}, "scaling.predictors: must be >= 1 or null, got 0"),
    ],
)
def test_a_section_made_in_python_holds_to_its_ranges(section: type, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        section(**values)
    assert str(caught.value).startswith(message)


def test_a_section_is_checked_again_when_it_is_replaced_and_cannot_be_changed() -> None:
    with pytest.raises(ConfigError, match=r"train\.epochs: must be >= 1, got 0"):
        dataclasses.replace(TrainSection(), epochs=0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().train.epochs = 3  # type: ignore[misc]


def test_a_crop_that_the_network_cannot_halve_is_refused_by_the_whole() -> None:
    with pytest.raises(
        ConfigError, match=r"^augment\.crop: must be multiples of 32 for unet of model\.depth 5, such as \(64, 96\)"
    ):
        Config(model=ModelSection(depth=5), augment=AugmentSection(crop=(48, 100)))
    assert Config(model=ModelSection(depth=5), augment=AugmentSection(crop=(64, 96))).augment.crop == (64, 96)


def test_a_crop_is_the_size_of_an_output_that_the_network_can_make() -> None:
    valid, resnet = ModelSection(kind="unet_valid"), ModelSection(kind="resnet18")
    rule = r"^augment\.crop: must be multiples of 16 plus 4 for unet_valid of model\.depth 4, such as \(260, 388\)"
    with pytest.raises(ConfigError, match=rule):
        Config(model=valid, augment=AugmentSection(crop=(256, 384)))
    assert Config(model=valid, augment=AugmentSection(crop=(260, 388))).model.sizes.margin == 92
    with pytest.raises(
        ConfigError, match=r"^augment\.crop: must be multiples of 32 for resnet18, such as \(256, 256\)"
    ):
        Config(model=resnet, augment=AugmentSection(crop=(240, 256)))


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
