"""The sections of the configuration that say what is trained, and how: network, augmentation, loss, steps and loop."""

from itertools import pairwise
from typing import Literal

from unet_ray.section import require, section

ClassWeights = Literal["none", "median", "sqrt"]
OptimizerName = Literal["adamw", "adam", "sgd", "rmsprop"]
ScheduleName = Literal["cosine", "poly", "step", "one_cycle", "constant"]
MetricName = Literal["miou", "object_miou", "pixel_accuracy", "train_loss"]


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
        require(self.max_failures >= 0, "train.max_failures", ">= 0", self.max_failures)
