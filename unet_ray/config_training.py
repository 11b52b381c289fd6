"""The sections of the configuration that say what is trained, and how: network, augmentation, loss, steps and loop."""

from typing import Literal

from unet_ray.section import require, section

ClassWeights = Literal["none", "median", "sqrt"]


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
