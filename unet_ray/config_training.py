"""The sections of the configuration that say what is trained, and how: network, augmentation, loss, steps and loop."""

from typing import Literal

from unet_ray.section import require, require_no_secret, section
from unet_ray.sizes import Sizes, padded_sizes, unpadded_sizes

ResNetKind = Literal["resnet18", "resnet34", "resnet50"]
ModelKind = Literal["unet", "unet_valid", "resnet18", "resnet34", "resnet50"]
Norm = Literal["batch", "sync_batch", "group", "none"]
Upsampling = Literal["transposed", "bilinear"]
ClassWeights = Literal["none", "median", "sqrt"]

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
