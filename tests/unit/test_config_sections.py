import dataclasses
from typing import Any

import pytest

from unet_ray.config import Config, PredictSection, ReportSection, RunSection, ScalingSection
from unet_ray.config_input import DataSection, ImagesSection, LabelsSection, SyntheticSection
from unet_ray.config_training import AugmentSection, LossSection, ModelSection, OptimSection, TrainSection
from unet_ray.errors import ConfigError

ELASTIC = "scaling.num_workers: must be >= 1, or two such numbers, fewest first, got "


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
        (PredictSection, {"forward_pixels": 9}, "predict.forward_pixels: must be >= 1024, got 9"),
        (
            PredictSection,
            {"scales": ()},
            "predict.scales: must be multiples of 0.25 in 0.25..4, each once, one at least",
        ),
        (PredictSection, {"scales": (1.0, 0.6)}, "predict.scales: must be multiples of 0.25"),
        (PredictSection, {"scales": (1.0, 1.0)}, "predict.scales: must be multiples of 0.25"),
        (PredictSection, {"scales": (8.0,)}, "predict.scales: must be multiples of 0.25"),
        (
            PredictSection,
            {"segment_every": 9},
            "predict.segment_every: must be in 1..8, the frames that are segmented together (predict.batch_size), got",
        ),
        (PredictSection, {"segment_every": 0}, "predict.segment_every: must be in 1..8"),
        (PredictSection, {"smooth_frames": 16}, "predict.smooth_frames: must be in 0..15, got 16"),
        (ScalingSection, {"cpus": 0}, "scaling.cpus: must be in 1..10000 or null, got 0"),
        (ScalingSection, {"gpus": -1}, "scaling.gpus: must be in 1..10000 or null, got -1"),
        (ScalingSection, {"wait_s": 0}, "scaling.wait_s: must be > 0, got 0"),
        (PredictSection, {"planes": ("confidence",) * 2}, "predict.planes: must be each named once"),
        (ReportSection, {"panels": 21}, "report.panels: must be in 0..20, got 21"),
        (
            ScalingSection,
            {"num_workers": 0},
            ELASTIC,
        ),
        (
            ScalingSection,
            {"num_workers": (0, 2)},
            ELASTIC,
        ),
        (
            ScalingSection,
            {"num_workers": (3, 2)},
            ELASTIC,
        ),
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
