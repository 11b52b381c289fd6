"""The configuration: one frozen tree of options, the same for all four stages.

Every section checks its own ranges, so a `Config` that exists is valid, whether it came from a file, from flags or
from Python. Credentials and endpoints are not configuration: they come from the environment (``AWS_*``). Reading and
writing is `config_file`'s.
"""

from dataclasses import field
from typing import Literal

from unet_ray.config_input import DataSection, ImagesSection, LabelsSection, LayoutName, SyntheticSection, VideoSection
from unet_ray.section import require, require_no_secret, section

ClassWeights = Literal["none", "median", "sqrt"]
Precision = Literal["auto", "bf16", "fp32"]
Split = Literal["train", "val", "test"]


@section
class RunSection:
    """Which run this is and where it lives."""

    name: str = "run"
    """Name of the run; its files lie in <run.storage>/<run.name>."""
    storage: str = "runs"
    """URI under which runs are stored: a local folder or s3://bucket/prefix."""
    seed: int = 0
    """Seed of every random choice: splits, initial weights, order, augmentation, synthetic frames."""
    single_writer: bool = False
    """For a store that ignores create-only writes: you promise that only one driver writes at a time."""

    def __post_init__(self) -> None:
        plain = self.name.replace("-", "").replace("_", "").replace(".", "")
        require(
            plain.isascii() and plain.isalnum() and not self.name.startswith("."),
            "run.name",
            "letters, digits, '-', '_' and '.' (not first)",
            self.name,
        )
        require(self.storage != "", "run.storage", "a folder or an s3:// URI", self.storage)
        require_no_secret("run", storage=self.storage)
        require(self.seed >= 0, "run.seed", ">= 0", self.seed)


@section
class ModelSection:
    """The U-Net."""

    width: int = 16
    """Channels of the first level; each level below has twice as many."""
    depth: int = 4
    """Number of times the resolution is halved."""

    def __post_init__(self) -> None:
        require(1 <= self.width <= 512, "model.width", "in 1..512", self.width)
        require(1 <= self.depth <= 7, "model.depth", "in 1..7", self.depth)


@section
class AugmentSection:
    """Random changes of training pairs; evaluation never sees them."""

    crop: tuple[int, int] | None = None
    """Height and width in pixels of training crops; null uses the size of the dataset's first pair."""
    hflip: float = 0.5
    """Probability of a left-right flip."""
    vflip: float = 0.0
    """Probability of an upside-down flip."""
    scale: tuple[float, float] = (0.75, 1.5)
    """Smallest and largest zoom."""
    brightness: float = 0.2
    """Largest relative change of brightness."""
    contrast: float = 0.2
    """Largest relative change of contrast."""
    saturation: float = 0.2
    """Largest relative change of saturation."""

    def __post_init__(self) -> None:
        if self.crop is not None:
            require(min(self.crop) >= 16, "augment.crop", "a height and a width >= 16 px", self.crop)
        low, high = self.scale
        require(0.1 <= low <= high <= 10, "augment.scale", "two numbers, 0.1 <= low <= high <= 10", self.scale)
        for key in ("hflip", "vflip", "brightness", "contrast", "saturation"):
            value = getattr(self, key)
            require(0 <= value <= 1, f"augment.{key}", "in [0, 1]", value)


@section
class LossSection:
    """What training minimises: cross-entropy + dice_weight * Dice."""

    dice_weight: float = 0.5
    """Weight of the Dice loss beside the cross-entropy."""
    class_weights: ClassWeights | tuple[float, ...] = "sqrt"
    """Cross-entropy weights: none, median frequency, its square root, or one number per class."""

    def __post_init__(self) -> None:
        require(self.dice_weight >= 0, "loss.dice_weight", ">= 0", self.dice_weight)
        if not isinstance(self.class_weights, str):
            positive = len(self.class_weights) > 0 and min(self.class_weights) >= 0
            require(positive, "loss.class_weights", "one number >= 0 per class", self.class_weights)


@section
class OptimSection:
    """AdamW with a linear warm-up and a cosine decay."""

    lr: float = 2e-3
    """Learning rate at the end of the warm-up."""
    weight_decay: float = 1e-2
    """Decoupled weight decay of the convolution weights; norms and biases have none."""
    warmup_fraction: float = 0.05
    """Share of all steps over which the learning rate rises from 0."""
    final_lr_fraction: float = 0.01
    """Learning rate of the last step as a share of optim.lr."""
    clip_norm: float | None = 5.0
    """Largest norm of the gradient; null does not clip."""

    def __post_init__(self) -> None:
        require(self.lr > 0, "optim.lr", "> 0", self.lr)
        require(self.weight_decay >= 0, "optim.weight_decay", ">= 0", self.weight_decay)
        require(0 <= self.warmup_fraction < 1, "optim.warmup_fraction", "in [0, 1)", self.warmup_fraction)
        final = self.final_lr_fraction
        require(0 <= final <= 1, "optim.final_lr_fraction", "in [0, 1]", final)
        require(self.clip_norm is None or self.clip_norm > 0, "optim.clip_norm", "> 0 or null", self.clip_norm)


@section
class TrainSection:
    """The training loop."""

    epochs: int = 40
    """Passes over the training split."""
    batch_size: int = 4
    """Crops per worker and step."""
    eval_every: int = 1
    """Epochs between validations; the last epoch always validates."""
    patience: int | None = None
    """Stop after this many validations without a better mIoU; null never stops early."""
    max_failures: int = 3
    """How often dead workers are replaced before the job gives up."""

    def __post_init__(self) -> None:
        require(self.epochs >= 1, "train.epochs", ">= 1", self.epochs)
        require(self.batch_size >= 1, "train.batch_size", ">= 1", self.batch_size)
        require(self.eval_every >= 1, "train.eval_every", ">= 1", self.eval_every)
        require(self.patience is None or self.patience >= 1, "train.patience", ">= 1 or null", self.patience)
        require(self.max_failures >= 0, "train.max_failures", ">= 0", self.max_failures)


@section
class PredictSection:
    """What is segmented, by which checkpoint, and how the masks are stored."""

    split: Split = "val"
    """Split of the prepared dataset to segment; not used when predict.images is given."""
    images: str | None = None
    """Frames to segment instead: URI of a folder or prefix, of a CSV or Parquet list, or of a video."""
    layout: LayoutName | str | None = None
    """How predict.images lies, as data.layout; null: list and video by the ending, else all images of a folder."""
    masks: str | None = None
    """URI of the folder with the true masks of predict.images, if there are any."""
    checkpoint: str = "best"
    """best, last, or the URI of a checkpoint folder."""
    output: str | None = None
    """URI of the predictions; null means <run.storage>/<run.name>/predictions."""
    batch_size: int = 8
    """Frames per forward pass."""
    shard_rows: int = 512
    """Rows in a shard, the unit that is sealed: what a crash can cost."""
    mask_encoding: Literal["raw", "png"] = "raw"
    """How pred_mask is stored: raw uint8 rows (smallest, fastest) or PNG (opens anywhere)."""

    def __post_init__(self) -> None:
        require_no_secret("predict", images=self.images, masks=self.masks, output=self.output)
        require_no_secret("predict", checkpoint=self.checkpoint)
        require(self.batch_size >= 1, "predict.batch_size", ">= 1", self.batch_size)
        require(self.shard_rows >= 1, "predict.shard_rows", ">= 1", self.shard_rows)


@section
class ReportSection:
    """The page."""

    panels: int = 4
    """Frames shown of each kind: best, worst, random."""

    def __post_init__(self) -> None:
        require(0 <= self.panels <= 20, "report.panels", "in 0..20", self.panels)


@section
class ScalingSection:
    """How many processes, on what."""

    device: Literal["auto", "cpu", "gpu"] = "auto"
    """Where the network runs; auto takes GPUs when the cluster has them."""
    num_workers: int = 1
    """Training workers."""
    predictors: int | None = None
    """Prediction actors; null takes one per GPU, or one per two CPU cores."""
    precision: Precision = "auto"
    """Arithmetic of the network; auto takes bf16 where the hardware has it."""

    def __post_init__(self) -> None:
        require(self.num_workers >= 1, "scaling.num_workers", ">= 1", self.num_workers)
        ok = self.predictors is None or self.predictors >= 1
        require(ok, "scaling.predictors", ">= 1 or null", self.predictors)


@section
class Config:
    """One experiment: what the four stages need, all of it validated whichever stage runs."""

    run: RunSection = field(default_factory=RunSection)
    data: DataSection = field(default_factory=DataSection)
    images: ImagesSection = field(default_factory=ImagesSection)
    video: VideoSection = field(default_factory=VideoSection)
    synthetic: SyntheticSection = field(default_factory=SyntheticSection)
    labels: LabelsSection = field(default_factory=LabelsSection)
    model: ModelSection = field(default_factory=ModelSection)
    augment: AugmentSection = field(default_factory=AugmentSection)
    loss: LossSection = field(default_factory=LossSection)
    optim: OptimSection = field(default_factory=OptimSection)
    train: TrainSection = field(default_factory=TrainSection)
    predict: PredictSection = field(default_factory=PredictSection)
    report: ReportSection = field(default_factory=ReportSection)
    scaling: ScalingSection = field(default_factory=ScalingSection)

    def __post_init__(self) -> None:
        stride, crop = 2**self.model.depth, self.augment.crop
        if crop is not None and any(size % stride for size in crop):
            near = tuple(max(stride, round(size / stride) * stride) for size in crop)
            rule = f"multiples of 2 ** model.depth = {stride}, such as {near}"
            require(False, "augment.crop", rule, crop)
        colours = self.data.layout != "pairs" or self.labels.scheme not in ("ids", "channel")
        rule = "colours, bins or kmeans where data.layout is pairs, whose masks are colours"
        require(colours, "labels.scheme", rule, self.labels.scheme)

    @property
    def run_uri(self) -> str:
        """Folder of the run."""
        return f"{self.run.storage.rstrip('/')}/{self.run.name}"

    @property
    def dataset_uri(self) -> str:
        """Folder of the prepared dataset."""
        return self.data.dataset or f"{self.run_uri}/dataset"

    @property
    def train_uri(self) -> str:
        """Folder of checkpoints and history."""
        return f"{self.run_uri}/train"

    @property
    def predictions_uri(self) -> str:
        """Folder of the predictions table."""
        return self.predict.output or f"{self.run_uri}/predictions"

    @property
    def report_uri(self) -> str:
        """Folder of the report page."""
        return f"{self.run_uri}/report"
