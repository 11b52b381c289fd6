"""The configuration: one frozen tree of options, the same for all four stages.

Every section checks its own ranges, so a `Config` that exists is valid, whether it came from a file, from flags or
from Python. Credentials and endpoints are not configuration: they come from the environment (``AWS_*``). Reading and
writing is `config_file`'s.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import field
from operator import attrgetter
from typing import Any, Literal

from unet_ray.config_input import DataSection, ImagesSection, LabelsSection, LayoutName, SyntheticSection, VideoSection
from unet_ray.config_training import AugmentSection, LossSection, ModelSection, OptimSection, TrainSection
from unet_ray.section import require, require_no_secret, section

Arithmetic = Literal["bf16", "fp16", "fp32"]
Precision = Literal["auto", Arithmetic]
Split = Literal["train", "val", "test"]
Flips = Literal["none", "horizontal", "both"]
Plane = Literal["confidence", "second_mask"]
LegacyProject = Literal["project000", "project002", "project003"]

INPUTS = (
    "data.root", "data.dataset", "labels.centroids", "model.encoder_weights", "train.start_from", "predict.images",
    "predict.masks", "predict.checkpoint",
)  # fmt: skip
"""Options that say where a job reads."""

OUTPUTS = ("run.storage", "predict.output", "report.classic")
"""Options that say where a job writes."""

_WORD = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_LABEL_KEY = re.compile(rf"([a-z0-9.-]{{1,253}}/)?{_WORD.pattern}")

SCALE_STEPS = 4
"""Scales of test-time augmentation are multiples of one part in so many."""


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
    """best, last, or a URI: of a checkpoint folder, of another run's train folder (its best), of an exported .onnx."""
    output: str | None = None
    """URI of the predictions; null means <run.storage>/<run.name>/predictions."""
    batch_size: int = 8
    """Frames per forward pass."""
    shard_rows: int = 512
    """Rows in a shard, the unit that is sealed: what a crash can cost."""
    forward_pixels: int = 2**22
    """Most pixels in a forward pass: more frames take turns, larger ones are cut into tiles that give the same mask."""
    flips: Flips = "none"
    """Average the probabilities of each frame with those of its left-right (horizontal), or of all its flips (both)."""
    scales: tuple[float, ...] = (1.0,)
    """Average the probabilities of each frame at these sizes: multiples of 0.25 times its own."""
    copy_repeats: bool = False
    """Sequences: whether a frame that shows what the one before shows takes its mask instead of being segmented."""
    segment_every: int = 1
    """Sequences: segment one frame in so many; the masks of the others follow the motion from the nearest one."""
    smooth_frames: int = 0
    """Sequences: each pixel takes the class that most of so many frames before and after have there, with its own."""
    planes: tuple[Plane, ...] = ()
    """What to store for each pixel beside its class: confidence (in 1/255), second_mask (the next class)."""
    mask_encoding: Literal["raw", "png"] = "raw"
    """How masks and planes are stored: raw uint8 rows (smallest, fastest) or PNG (opens anywhere)."""

    def __post_init__(self) -> None:
        require_no_secret("predict", images=self.images, masks=self.masks, output=self.output)
        require_no_secret("predict", checkpoint=self.checkpoint)
        require(self.batch_size >= 1, "predict.batch_size", ">= 1", self.batch_size)
        require(self.shard_rows >= 1, "predict.shard_rows", ">= 1", self.shard_rows)
        require(self.forward_pixels >= 1024, "predict.forward_pixels", ">= 1024", self.forward_pixels)
        even = all(scale * SCALE_STEPS % 1 == 0 and 0.25 <= scale <= 4 for scale in self.scales)
        rule = "multiples of 0.25 in 0.25..4, each once, one at least"
        ok = even and 0 < len(self.scales) == len(set(self.scales))
        require(ok, "predict.scales", rule, self.scales)
        together = f"in 1..{self.batch_size}, the frames that are segmented together (predict.batch_size)"
        require(1 <= self.segment_every <= self.batch_size, "predict.segment_every", together, self.segment_every)
        require(0 <= self.smooth_frames <= 15, "predict.smooth_frames", "in 0..15", self.smooth_frames)
        require(len(self.planes) == len(set(self.planes)), "predict.planes", "each named once", self.planes)


@section
class ReportSection:
    """The page."""

    panels: int = 4
    """Frames shown of each kind: best, worst, most uncertain, random."""
    classic: str | None = None
    """URI of a folder for files as classic U-Net projects leave them: metrics.png, prediction.png, classes.txt, ..."""
    legacy: LegacyProject | None = None
    """Also score as a published U-Net project does, rule by rule (docs/reading-results.md)."""

    def __post_init__(self) -> None:
        require(0 <= self.panels <= 20, "report.panels", "in 0..20", self.panels)


@section
class ScalingSection:
    """How many processes, on what."""

    device: Literal["auto", "cpu", "gpu"] = "auto"
    """Where the network runs; auto takes GPUs when the cluster has them."""
    num_workers: int | tuple[int, int] = 1
    """Training workers; two numbers are the fewest and the most, between which a run follows the cluster."""
    predictors: int | None = None
    """Prediction actors; null takes one per GPU, which more would share, or as many on CPUs as data tasks leave."""
    cpus: int | None = None
    """CPUs to ask an autoscaling cluster for and wait for, before they are divided; null takes those that are there."""
    gpus: int | None = None
    """GPUs to ask for in the same way."""
    wait_s: float = 1800.0
    """Longest time to wait for scaling.cpus and scaling.gpus."""
    node_labels: dict[str, str] | None = None
    """Labels of the nodes that the network runs on, such as {ray.io/accelerator-type: A100}; null takes any."""
    precision: Precision = "auto"
    """Arithmetic of the network: fp32, bf16 or fp16; auto takes bf16 where the hardware has it, else fp32."""

    def __post_init__(self) -> None:
        fewest, most = self.workers
        require(1 <= fewest <= most, "scaling.num_workers", ">= 1, or two such numbers, fewest first", self.num_workers)
        ok = self.predictors is None or self.predictors >= 1
        require(ok, "scaling.predictors", ">= 1 or null", self.predictors)
        for key, count in (("scaling.cpus", self.cpus), ("scaling.gpus", self.gpus)):
            require(count is None or 1 <= count <= 10_000, key, "in 1..10000 or null", count)
        require(self.wait_s > 0, "scaling.wait_s", "> 0", self.wait_s)
        key, rule = "scaling.node_labels", "labels of nodes and their values, in Kubernetes' syntax"
        for label, value in (self.node_labels or {}).items():
            require(bool(_LABEL_KEY.fullmatch(label) and _WORD.fullmatch(value)), key, rule, f"{label}: {value}")
        ok = not self.node_labels or fewest == most  # an elastic run of Ray 2.60 counts nodes of any labels
        require(ok, key, "null where scaling.num_workers is two numbers", self.node_labels)

    @property
    def workers(self) -> tuple[int, int]:
        """The fewest and the most training workers."""
        return (self.num_workers, self.num_workers) if isinstance(self.num_workers, int) else self.num_workers


@section
class Range:
    """A range of numbers to draw from: evenly, or evenly in their logarithms."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        rule = "a range with low < high" + (", low > 0" if self.log else "")
        require(self.low < self.high and (self.low > 0 or not self.log), "tune.space", rule, (self.low, self.high))

    @property
    def width(self) -> float:
        """How far it reaches."""
        return self.high - self.low


@section
class TuneSection:
    """A search over options of training."""

    space: dict[str, tuple[Any, ...] | Range] | None = None
    """What to vary: by option, a list of values or {low, high, log}."""
    trials: int = 16
    """Most runs of the search."""
    grace_epochs: int = 5
    """Epochs that every trial trains."""
    reduction: int = 3
    """One trial in so many goes on, each time as many times further as this."""
    concurrent: int = 1
    """Trials at a time; they share the cluster."""

    def __post_init__(self) -> None:
        for key, values in (self.space or {}).items():
            require(values != (), "tune.space", f"a list of values or a range for {key}", values)
        require(1 <= self.trials <= 1000, "tune.trials", "in 1..1000", self.trials)
        require(self.grace_epochs >= 1, "tune.grace_epochs", ">= 1", self.grace_epochs)
        require(self.reduction >= 2, "tune.reduction", ">= 2", self.reduction)
        require(self.concurrent >= 1, "tune.concurrent", ">= 1", self.concurrent)


@section
class NodeType:
    """A kind of machine that a job could run on."""

    cpus: int
    gpus: int = 0
    price: float | None = None
    """What an hour of it costs."""

    def __post_init__(self) -> None:
        ok = self.cpus >= 2 and self.gpus >= 0 and (self.price is None or self.price >= 0)
        rule = "kinds of nodes, each with cpus >= 2 and, if you like, gpus and the price of an hour"
        require(ok, "plan.nodes", rule, {"cpus": self.cpus, "gpus": self.gpus, "price": self.price})


@section
class PlanSection:
    """What a prediction will take, told from a sample."""

    frames: int = 200
    """Frames to segment on this machine."""
    nodes: dict[str, NodeType] | None = None
    """Kinds of nodes to tell time and money for, by name: {cpus, gpus, price of an hour}."""

    def __post_init__(self) -> None:
        require(1 <= self.frames <= 100_000, "plan.frames", "in 1..100000", self.frames)


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
    tune: TuneSection = field(default_factory=TuneSection)
    plan: PlanSection = field(default_factory=PlanSection)

    def __post_init__(self) -> None:
        model, sizes, crop = self.model, self.model.sizes, self.augment.crop
        if crop is not None and tuple(map(sizes.at_least, crop)) != crop:
            near = tuple(map(sizes.nearest, crop))
            network = model.kind if model.is_resnet else f"{model.kind} of model.depth {model.depth}"
            require(False, "augment.crop", f"{sizes.rule} for {network}, such as {near}", crop)
        colours = self.data.layout != "pairs" or self.labels.scheme not in ("ids", "channel")
        rule = "colours, bins or kmeans where data.layout is pairs, whose masks are colours"
        require(colours, "labels.scheme", rule, self.labels.scheme)

    def crop_of(self, height: int, width: int) -> tuple[int, int]:
        """Return the size of training crops: as configured, or a pair's, rounded down to what the network puts out."""
        sizes = self.model.sizes
        return self.augment.crop or (sizes.at_most(height), sizes.at_most(width))

    def places(self, keys: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Yield those of the options that name a place, with it."""
        for key in keys:
            place = attrgetter(key)(self)
            if place is not None and (key != "predict.checkpoint" or place not in ("best", "last")):
                yield key, place

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
