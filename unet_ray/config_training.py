"""The sections of the configuration that say what is trained, and how: network, augmentation, loss, steps and loop."""

from itertools import pairwise
from typing import Literal

from unet_ray.section import require, require_no_secret, section
from unet_ray.sizes import Sizes, padded_sizes, unpadded_sizes

ResNetKind = Literal["resnet18", "resnet34", "resnet50"]
ModelKind = Literal["unet", "unet_valid", "resnet18", "resnet34", "resnet50"]
Norm = Literal["batch", "sync_batch", "group", "none"]
Upsampling = Literal["transposed", "bilinear"]
ClassWeights = Literal["none", "median", "sqrt"]
OptimizerName = Literal["adamw", "adam", "sgd", "rmsprop"]
ScheduleName = Literal["cosine", "poly", "step", "one_cycle", "constant"]
MetricName = Literal["miou", "object_miou", "pixel_accuracy", "train_loss"]

RESNET_DEPTH = 5
"""How often a ResNet halves the resolution."""


@section
class ModelSection:
    """The network."""

    kind: ModelKind = "unet"
    """unet (padded), unet_valid (as published, unpadded), or a U-Net with a ResNet as encoder."""
    width: int = 16
    """Channels at full resolution; each level below has twice as many, but for those of a ResNet."""
    depth: int = 4
    """Number of times the resolution is halved; a ResNet halves it five times."""
    norm: Literal["auto", "batch", "sync_batch", "group", "none"] = "auto"
    """Normalisation of the convolutions; auto is batch, and none for unet_valid. sync_batch needs GPUs."""
    upsampling: Upsampling = "transposed"
    """How the resolution is doubled: by a 2x2 transposed convolution, or by interpolation and a 1x1 convolution."""
    dropout: float = 0.0
    """Share of the coarsest map that training sets to 0."""
    residual: bool = False
    """Add the input of each block of a unet to its output."""
    deep_supervision: bool = False
    """Let training compare the coarser levels too, each with half the weight of the next finer one."""
    encoder_weights: str | None = None
    """URI of weights a ResNet begins with: safetensors, or a state dict of torch; nothing is ever downloaded."""

    def __post_init__(self) -> None:
        require(1 <= self.width <= 512, "model.width", "in 1..512", self.width)
        require(1 <= self.depth <= 7, "model.depth", "in 1..7", self.depth)
        require(0 <= self.dropout < 1, "model.dropout", "in [0, 1)", self.dropout)
        require_no_secret("model", encoder_weights=self.encoder_weights)
        if self.is_resnet:
            left_out = self.depth in (ModelSection.depth, RESNET_DEPTH)
            require(left_out, "model.depth", f"left out for {self.kind}, which halves five times", self.depth)
            require(self.norm != "none", "model.norm", f"a normalisation for {self.kind}", self.norm)
        else:
            rule = f"null for {self.kind}: only resnet18, resnet34 and resnet50 have an encoder of their own"
            require(self.encoder_weights is None, "model.encoder_weights", rule, self.encoder_weights)
        require(not self.residual or self.kind == "unet", "model.residual", f"false for {self.kind}", self.residual)
        if self.kind == "unet_valid":
            rule = "transposed for unet_valid: interpolation would look beyond the edge of a tile"
            require(self.upsampling == "transposed", "model.upsampling", rule, self.upsampling)
            rule = "false for unet_valid, whose levels show different parts of the image"
            require(not self.deep_supervision, "model.deep_supervision", rule, True)
        coarser = self.sizes.stride > 2 or not self.deep_supervision
        require(coarser, "model.deep_supervision", "false at model.depth 1, which has no coarser level", True)

    @property
    def is_resnet(self) -> bool:
        """Whether the contracting path is a ResNet."""
        return self.kind not in ("unet", "unet_valid")

    @property
    def resolved_norm(self) -> Norm:
        """The normalisation, "auto" resolved."""
        if self.norm != "auto":
            return self.norm
        return "none" if self.kind == "unet_valid" else "batch"

    @property
    def sizes(self) -> Sizes:
        """The sizes the network works on."""
        if self.kind == "unet_valid":
            return unpadded_sizes(self.depth)
        return padded_sizes(RESNET_DEPTH if self.is_resnet else self.depth)


_AUGMENT_RANGES = (
    ("scale", 0.1, 10),
    ("blur_sigma", 0.1, 20),
    ("noise_std", 0, 128),
    ("sharpen_amount", 0, 10),
    ("jpeg_quality", 1, 100),
    ("cutout_size", 0.01, 1),
)
_PROBABILITIES = ("balance", "hflip", "vflip", "elastic", "blur", "noise", "sharpen", "jpeg")
_AUGMENT_LIMITS: dict[str, float] = dict.fromkeys((*_PROBABILITIES, "brightness", "contrast", "saturation"), 1) | {
    "rotate": 180,
    "translate": 1,
    "shear": 60,
    "perspective": 0.2,  # from 0.25 on, one corner can cross the line through its neighbours
    "elastic_sigma": 100,
    "hue": 180,
    "cutout": 64,
}


@section
class AugmentSection:
    """Random changes of training pairs; evaluation never sees them."""

    crop: tuple[int, int] | None = None
    """Height and width in pixels of training crops; null uses the size of the dataset's first pair."""
    balance: float = 0.0
    """Probability that a crop is placed on a pixel of a class drawn evenly among those in the mask."""
    hflip: float = 0.5
    """Probability of a left-right flip."""
    vflip: float = 0.0
    """Probability of an upside-down flip."""
    scale: tuple[float, float] = (0.75, 1.5)
    """Smallest and largest zoom."""
    rotate: float = 0.0
    """Largest rotation in degrees, either way."""
    translate: float = 0.0
    """Largest shift of the crop from its place, which may lead out of the frame, as a share of its size."""
    shear: float = 0.0
    """Largest angle in degrees by which uprights lean."""
    perspective: float = 0.0
    """Largest move of each corner of the crop, as a share of its size."""
    elastic: float = 0.0
    """Probability of an elastic deformation, as the U-Net paper has it: random shifts of a 3 x 3 grid."""
    elastic_sigma: float = 10.0
    """Standard deviation of these shifts in pixels of the crop."""
    brightness: float = 0.2
    """Largest relative change of brightness."""
    contrast: float = 0.2
    """Largest relative change of contrast."""
    saturation: float = 0.2
    """Largest relative change of saturation."""
    hue: float = 0.0
    """Largest turn of the hue in degrees, either way."""
    blur: float = 0.0
    """Probability of a Gaussian blur."""
    blur_sigma: tuple[float, float] = (0.5, 2.0)
    """Smallest and largest standard deviation of the blur in pixels."""
    noise: float = 0.0
    """Probability of Gaussian noise."""
    noise_std: tuple[float, float] = (2.0, 12.0)
    """Smallest and largest standard deviation of the noise, of values in 0..255."""
    sharpen: float = 0.0
    """Probability of an unsharp mask."""
    sharpen_amount: tuple[float, float] = (0.3, 1.5)
    """Smallest and largest share of the fine detail that is added."""
    jpeg: float = 0.0
    """Probability of JPEG artefacts."""
    jpeg_quality: tuple[int, int] = (30, 90)
    """Lowest and highest quality of the JPEG."""
    cutout: int = 0
    """Rectangles hidden in each crop: grey in the image, ignored in the mask."""
    cutout_size: tuple[float, float] = (0.1, 0.3)
    """Smallest and largest side of these rectangles, as a share of the crop's."""

    def __post_init__(self) -> None:
        if self.crop is not None:
            require(min(self.crop) >= 16, "augment.crop", "a height and a width >= 16 px", self.crop)
        for key, least, most in _AUGMENT_RANGES:
            low, high = getattr(self, key)
            rule = f"two numbers, {least} <= low <= high <= {most}"
            require(least <= low <= high <= most, f"augment.{key}", rule, (low, high))
        for key, limit in _AUGMENT_LIMITS.items():
            value = getattr(self, key)
            require(0 <= value <= limit, f"augment.{key}", f"in [0, {limit}]", value)


@section
class LossSection:
    """What training minimises: a weighted sum of losses. Cross-entropy and focal loss are pixel-wise."""

    cross_entropy: float = 1.0
    """Weight of the cross-entropy."""
    dice: float = 0.5
    """Weight of the soft Dice loss."""
    jaccard: float = 0.0
    """Weight of the soft Jaccard (IoU) loss."""
    focal: float = 0.0
    """Weight of the focal loss."""
    lovasz: float = 0.0
    """Weight of the Lovasz-softmax loss."""
    label_smoothing: float = 0.0
    """Share of each label that the cross-entropy spreads evenly over all classes."""
    focal_gamma: float = 2.0
    """How much less the focal loss makes of pixels that are right already; 0 makes it the cross-entropy."""
    ohem_fraction: float = 1.0
    """Share of the labelled pixels of a batch, the hardest, that counts in the pixel-wise losses."""
    class_weights: ClassWeights | tuple[float, ...] = "sqrt"
    """Weights of the pixel-wise losses: none, median frequency, its square root, or one number per class."""
    border_classes: tuple[str, ...] = ()
    """Classes whose connected components are cells: pixels between two that nearly touch weigh more."""
    border_weight: float = 10.0
    """Pixel-wise weight, added to the class's, between two cells that touch."""
    border_sigma: float = 5.0
    """How fast that weight falls with the distances to the two nearest cells, in px."""

    def __post_init__(self) -> None:
        terms = {key: getattr(self, key) for key in ("cross_entropy", "dice", "jaccard", "focal", "lovasz")}
        for key, weight in terms.items():
            require(weight >= 0, f"loss.{key}", ">= 0", weight)
        rule = "> 0 where dice, jaccard, focal and lovasz are 0, or nothing is minimised"
        require(any(terms.values()), "loss.cross_entropy", rule, self.cross_entropy)
        require(0 <= self.label_smoothing < 1, "loss.label_smoothing", "in [0, 1)", self.label_smoothing)
        require(self.focal_gamma >= 0, "loss.focal_gamma", ">= 0", self.focal_gamma)
        require(0 < self.ohem_fraction <= 1, "loss.ohem_fraction", "in (0, 1]", self.ohem_fraction)
        if not isinstance(self.class_weights, str):
            positive = len(self.class_weights) > 0 and min(self.class_weights) >= 0
            require(positive, "loss.class_weights", "one number >= 0 per class", self.class_weights)
            require(any(self.class_weights), "loss.class_weights", "> 0 for a class at least", self.class_weights)
        require(0 < self.border_weight <= 1e4, "loss.border_weight", "in (0, 10000]", self.border_weight)
        require(0 < self.border_sigma <= 100, "loss.border_sigma", "in (0, 100] px", self.border_sigma)
        pixelwise = self.cross_entropy > 0 or self.focal > 0
        rule = "left out where loss.cross_entropy and loss.focal are 0"
        require(pixelwise or not self.border_classes, "loss.border_classes", rule, self.border_classes)
        require(pixelwise or self.ohem_fraction == 1, "loss.ohem_fraction", rule, self.ohem_fraction)


@section
class OptimSection:
    """The optimizer, its learning rate over the run, and the average of the weights."""

    kind: OptimizerName = "adamw"
    """adamw, adam, sgd or rmsprop."""
    lr: float = 2e-3
    """Largest learning rate of the run."""
    momentum: float = 0.9
    """Momentum of sgd (0.99 in the U-Net paper) and of rmsprop; the others have none to set."""
    weight_decay: float = 1e-2
    """Weight decay of the convolution weights, decoupled in adamw; norms and biases have none."""
    encoder_lr_factor: float = 1.0
    """Learning rate of a network's pretrained encoder as a share of that of the rest."""
    schedule: ScheduleName = "cosine"
    """How the learning rate falls after the warm-up: cosine, poly, step, one_cycle, or constant for not at all."""
    warmup_fraction: float = 0.05
    """Share of all steps over which the learning rate rises; one_cycle is usual with 0.3."""
    final_lr_fraction: float = 0.01
    """Learning rate at the end as a share of optim.lr; step and constant end where they end."""
    milestones: tuple[float, ...] = (0.6, 0.85)
    """Shares of all steps at which the schedule step divides the learning rate by ten."""
    clip_norm: float | None = 5.0
    """Largest norm of the gradient; null does not clip."""
    ema_decay: float | None = None
    """Decay per step of the average of the weights that is validated and predicts; null keeps no average."""
    compile: bool = False
    """Compile the network for training with torch.compile: minutes at the start, faster steps on a GPU."""

    def __post_init__(self) -> None:
        require(self.lr > 0, "optim.lr", "> 0", self.lr)
        require(0 <= self.momentum < 1, "optim.momentum", "in [0, 1)", self.momentum)
        require(self.weight_decay >= 0, "optim.weight_decay", ">= 0", self.weight_decay)
        factor = self.encoder_lr_factor
        require(0 <= factor <= 1, "optim.encoder_lr_factor", "in [0, 1]", factor)
        require(0 <= self.warmup_fraction < 1, "optim.warmup_fraction", "in [0, 1)", self.warmup_fraction)
        final = self.final_lr_fraction
        require(0 <= final <= 1, "optim.final_lr_fraction", "in [0, 1]", final)
        ladder = (0.0, *self.milestones, 1.0)
        rising = all(low < high for low, high in pairwise(ladder))
        require(rising, "optim.milestones", "increasing numbers between 0 and 1", self.milestones)
        require(self.clip_norm is None or self.clip_norm > 0, "optim.clip_norm", "> 0 or null", self.clip_norm)
        decay = self.ema_decay
        require(decay is None or 0 < decay < 1, "optim.ema_decay", "between 0 and 1, or null", decay)


@section
class TrainSection:
    """The training loop."""

    epochs: int = 40
    """Passes over the training split."""
    batch_size: int = 4
    """Crops per worker and forward pass."""
    accumulate: int = 1
    """Forward passes per worker whose gradients are averaged into one step."""
    eval_every: int = 1
    """Epochs between validations; the last epoch always validates."""
    metric: MetricName = "miou"
    """What makes the best checkpoint: miou, object_miou or pixel_accuracy of the validation, or train_loss."""
    patience: int | None = None
    """Stop after this many scored epochs without a better train.metric; null never stops early."""
    checkpoint_every_steps: int | None = None
    """Also save a checkpoint within epochs, after each so many steps; null only saves after epochs."""
    start_from: str | None = None
    """Begin with the weights of another run: URI of a checkpoint, or of a train folder for its best; null: anew."""
    mlflow_experiment: str | None = None
    """Also send settings and scores to this experiment of the MLflow server of MLFLOW_TRACKING_URI; null: to none."""
    max_failures: int = 3
    """How often dead workers are replaced before the job gives up."""

    def __post_init__(self) -> None:
        require(self.epochs >= 1, "train.epochs", ">= 1", self.epochs)
        require(self.batch_size >= 1, "train.batch_size", ">= 1", self.batch_size)
        require(self.accumulate >= 1, "train.accumulate", ">= 1", self.accumulate)
        require(self.eval_every >= 1, "train.eval_every", ">= 1", self.eval_every)
        require(self.patience is None or self.patience >= 1, "train.patience", ">= 1 or null", self.patience)
        every = self.checkpoint_every_steps
        require(every is None or every >= 1, "train.checkpoint_every_steps", ">= 1 or null", every)
        require_no_secret("train", start_from=self.start_from)
        require(self.max_failures >= 0, "train.max_failures", ">= 0", self.max_failures)
