"""The sections of the configuration that say what is read: input, decoding, video, drawn scenes, labels."""

import re
from typing import Literal, get_args

from unet_ray.section import require, require_no_secret, section

Colour = tuple[int, int, int]
MOST_CLASSES = 253
"""Masks are 8 bits deep; 255 is ignored, and lookups need two more."""
PresetName = Literal[
    "cityscapes_34", "cityscapes_19", "cityscapes_8", "cityscapes_train_ids", "camvid_11", "camvid_32",
    "camvid_32_to_11", "voc", "carla", "isbi",
]  # fmt: skip
LayoutName = Literal[
    "folder", "list", "camvid", "cityscapes", "pairs", "voc", "isbi", "carla", "video", "synthetic"
]  # fmt: skip


@section
class DataSection:
    """What `prepare` reads and how it becomes a dataset."""

    layout: LayoutName | str = "folder"
    """How frames and masks lie; or a function of your own, as package.module:function (docs/layouts.md)."""
    root: str | None = None
    """URI of the input; for list, of a CSV or Parquet file: columns image, mask and optionally split, group, frame."""
    images: str = "images"
    """folder: where the images lie under data.root."""
    masks: str | None = "masks"
    """folder: where the masks lie under data.root, same relative names; null for frames without truth."""
    image_suffix: str = ""
    """folder: what an image's stem has after the name it shares with its mask, such as _rgb."""
    mask_suffix: str = ""
    """What a mask's stem has after the name it shares with its image, such as _mask or _L."""
    unlabelled: Literal["quarantine", "skip"] = "quarantine"
    """Images without a mask: rows with a reason, or left out of the plan and counted (sparse labels)."""
    group_pattern: str | None = None
    """Regular expression whose first group, found in an image_id, is the image's group; null takes the layout's."""
    resize: tuple[int, int] | None = None
    """Height and width in pixels every pair is resized to; null keeps each frame as it is, byte for byte."""
    split: Literal["lists", "hash", "ratio", "group", "contiguous"] = "hash"
    """Where splits come from: the layout's lists, a hash of image_id, exact shares, whole groups, or the last rows."""
    val_fraction: float = 0.2
    """Share of images (of groups, by group) that validate; not used with data.folds."""
    test_fraction: float = 0.0
    """Share of images (of groups, by group) kept for testing."""
    val_groups: tuple[str, ...] = ()
    """group: names of the groups that validate, such as a city or a sequence; instead of the fractions."""
    test_groups: tuple[str, ...] = ()
    """group: names of the groups kept for testing; instead of the fractions."""
    folds: int | None = None
    """ratio, group, contiguous: number of folds of what is not kept for testing; instead of data.val_fraction."""
    fold: int = 0
    """Which of data.folds validates, from 0."""
    dataset: str | None = None
    """URI of the prepared dataset; null means <run.storage>/<run.name>/dataset."""
    shard_rows: int = 512
    """Rows in a shard, the unit that is sealed: what a crash can cost."""
    max_quarantined_fraction: float = 0.2
    """The job stops, publishing nothing, when more than this share of its rows is unusable."""
    max_quarantined_in_a_row: int = 100
    """The job stops, publishing nothing, when this many rows come in one after another and none is usable."""

    def __post_init__(self) -> None:
        require_no_secret("data", root=self.root, dataset=self.dataset)
        known = get_args(LayoutName)
        named = self.layout in known or re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", self.layout) is not None
        require(named, "data.layout", f"one of {', '.join(known)}, or package.module:function", self.layout)
        if self.group_pattern is not None:
            try:
                groups = re.compile(self.group_pattern).groups
            except re.error as error:
                require(False, "data.group_pattern", f"a regular expression ({error})", self.group_pattern)
            require(groups >= 1, "data.group_pattern", "a regular expression with a (group)", self.group_pattern)
        if self.resize is not None:
            require(min(self.resize) >= 16, "data.resize", "a height and a width >= 16 px", self.resize)
        require(0 <= self.val_fraction < 1, "data.val_fraction", "in [0, 1)", self.val_fraction)
        require(0 <= self.test_fraction < 1, "data.test_fraction", "in [0, 1)", self.test_fraction)
        both = self.test_fraction + (0 if self.folds else self.val_fraction)
        require(both < 1, "data.test_fraction", "below 1 together with data.val_fraction", both)
        self._check_named_groups()
        require(self.folds is None or self.folds >= 2, "data.folds", ">= 2 or null", self.folds)
        if self.folds is not None:
            cut = self.split in ("ratio", "group", "contiguous")
            require(cut, "data.split", "ratio, group or contiguous with data.folds", self.split)
        require(0 <= self.fold < (self.folds or 1), "data.fold", "in 0..data.folds - 1", self.fold)
        require(self.shard_rows >= 1, "data.shard_rows", ">= 1", self.shard_rows)
        fraction = self.max_quarantined_fraction
        require(0 <= fraction <= 1, "data.max_quarantined_fraction", "in [0, 1]", fraction)
        in_a_row = self.max_quarantined_in_a_row
        require(in_a_row >= 1, "data.max_quarantined_in_a_row", ">= 1", in_a_row)

    @property
    def has_named_groups(self) -> bool:
        """Tell whether groups are held out by their names rather than by shares."""
        return bool(self.val_groups or self.test_groups)

    def _check_named_groups(self) -> None:
        if not self.has_named_groups:
            return
        key = "data.val_groups" if self.val_groups else "data.test_groups"
        require(self.split == "group", "data.split", f"group with {key}", self.split)
        require(self.folds is None, "data.folds", f"null with {key}", self.folds)
        require(
            self.test_fraction == 0, "data.test_fraction", f"0 with {key}, use data.test_groups", self.test_fraction
        )
        both = sorted({*self.val_groups} & {*self.test_groups})
        require(not both, "data.test_groups", "none of data.val_groups", both)


@section
class ImagesSection:
    """How files from outside are decoded; one that is rejected becomes a quarantined row."""

    max_pixels: int = 64_000_000
    """Files of more pixels are quarantined before they are decoded."""
    max_bytes: int = 128 * 2**20
    """Files of more bytes are quarantined before they are read; videos are read in parts and may be larger."""
    frames: Literal["reject", "first"] = "reject"
    """Files of several frames or pages: reject them, or take the first frame."""
    alpha: Literal["drop", "reject"] | tuple[int, int, int] = "drop"
    """Transparent images: drop the transparency, reject them, or an RGB colour to lay them on."""
    bit_depth: Literal["scale", "reject"] = "scale"
    """Images of more than 8 bits a channel: scale them to 8, or reject them; masks keep all their bits."""
    cmyk: Literal["convert", "reject"] = "convert"
    """Images in printing colours: convert them to RGB without a colour profile, or reject them."""
    photo: Literal["left", "right"] = "left"
    """pairs: which half of a file is the photo; the other one is its mask."""
    cut: int | None = None
    """pairs: first pixel column of the right half; null cuts in the middle."""

    def __post_init__(self) -> None:
        most = 178_956_970  # where Pillow stops
        require(1 <= self.max_pixels <= most, "images.max_pixels", f"in 1..{most}", self.max_pixels)
        require(self.max_bytes >= 1, "images.max_bytes", ">= 1", self.max_bytes)
        require(self.cut is None or self.cut >= 1, "images.cut", ">= 1 or null", self.cut)
        if not isinstance(self.alpha, str):
            rgb = all(0 <= value <= 255 for value in self.alpha)
            require(rgb, "images.alpha", "RGB values in 0..255", self.alpha)


@section
class VideoSection:
    """Which frames of video files are taken."""

    every: int = 1
    """Every n-th frame."""
    fps: float | None = None
    """Frames per second to take instead; null takes every n-th."""
    start_s: float = 0.0
    """Seconds from the start of a file to its first frame."""
    end_s: float | None = None
    """Seconds from the start of a file to where it ends; null takes all of it."""

    def __post_init__(self) -> None:
        require(self.every >= 1, "video.every", ">= 1", self.every)
        require(self.fps is None or self.fps > 0, "video.fps", "> 0 or null", self.fps)
        both = self.fps is None or self.every == 1
        require(both, "video.fps", "null where video.every is given", self.fps)
        require(self.start_s >= 0, "video.start_s", ">= 0", self.start_s)
        ok = self.end_s is None or self.end_s > self.start_s
        require(ok, "video.end_s", "after video.start_s, or null", self.end_s)


@section
class SyntheticSection:
    """The street scenes `prepare` draws when data.layout is synthetic."""

    sequences: int = 10
    """Number of sequences; each is a group."""
    frames: int = 24
    """Frames in each sequence."""
    height: int = 160
    """Frame height in pixels."""
    width: int = 224
    """Frame width in pixels."""

    def __post_init__(self) -> None:
        require(self.sequences >= 1, "synthetic.sequences", ">= 1", self.sequences)
        require(self.frames >= 1, "synthetic.frames", ">= 1", self.frames)
        require(self.height >= 48, "synthetic.height", ">= 48 px", self.height)
        require(self.width >= 64, "synthetic.width", ">= 64 px", self.width)


@section
class LabelsSection:
    """What the pixels of a mask mean."""

    preset: PresetName | None = None
    """A table of names, stored values and colours that is known; null takes the layout's own, or labels.classes."""
    classes: tuple[str, ...] = ()
    """Class names; position = class_id."""
    palette: tuple[Colour, ...] = ()
    """RGB colour of each of labels.classes, in pictures and in masks of colours; empty generates one."""
    values: tuple[int, ...] = ()
    """Number that masks hold for each of labels.classes; empty takes its position."""
    ignore_ids: tuple[int, ...] | None = None
    """Mask values that mean "no label", not trained on or scored; null: the preset's, or 255 where no class has it."""
    ignore_colours: tuple[Colour, ...] = ()
    """Mask colours that mean "no label"."""
    background: str | None = None
    """Name of the background class, which object_miou leaves out; null scores every class as an object."""
    groups: dict[str, tuple[str, ...]] | None = None
    """Classes made of several labels, {vehicle: [car, truck]}, labels of no group are ignored; null: the preset's."""
    leave_out: tuple[str, ...] = ()
    """Labels that no pixel is taken for."""
    scheme: Literal["ids", "channel", "colours", "bins", "kmeans"] | None = None
    """How masks are read: stored ids, ids in a channel, colours, bins of red, K-Means; null: the layout's, or ids."""
    channel: Literal["red", "green", "blue", "max"] = "red"
    """channel: which one holds the ids; max takes the largest of the three."""
    max_distance: int | Literal["any"] | None = None
    """colours: how far a pixel may be from a known colour (Euclidean, 0..442, or any); null: the layout's, or 0."""
    mode_filter: int | None = None
    """Width in pixels of a window whose most frequent class replaces the centre; null: the layout's, or 1, none."""
    bin_width: int = 20
    """bins: width of a bin; the last one takes the rest."""
    clusters: int = 10
    """kmeans: number of clusters, K."""
    centroids: str | None = None
    """kmeans: URI of a prepared dataset whose centroids are used again instead of fitting new ones."""
    unknown: Literal["reject", "ignore"] = "reject"
    """Values and colours that are none of these: quarantine the pair, or ignore the pixels."""
    hood: tuple[str, int] | None = None
    """A class, and the row from which its pixels are ignored: the hood of the car that carries the camera."""

    def __post_init__(self) -> None:
        require(len(self.classes) <= MOST_CLASSES, "labels.classes", f"at most {MOST_CLASSES} names", len(self.classes))
        unique = len(set(self.classes)) == len(self.classes)
        require(unique, "labels.classes", "names used once each", list(self.classes))
        for key, names in (("classes", self.classes), ("groups", tuple(self.groups or ()))):
            shown = all(name.isprintable() for name in names)
            require(shown, f"labels.{key}", "names without control characters", list(names))
        for key, colours in (("palette", self.palette), ("ignore_colours", self.ignore_colours)):
            rgb = all(0 <= value <= 255 for colour in colours for value in colour)
            require(rgb, f"labels.{key}", "RGB values in 0..255", colours)
        for key, values in (("values", self.values), ("ignore_ids", self.ignore_ids or ())):
            ids = all(0 <= value <= 65535 for value in values)
            require(ids, f"labels.{key}", "mask values in 0..65535", values)
        far = self.max_distance
        near = isinstance(far, str) or far is None or 0 <= far <= 442
        require(near, "labels.max_distance", "in 0..442, any or null", far)
        width = self.mode_filter or 1
        require(width % 2 == 1 and 1 <= width <= 31, "labels.mode_filter", "odd, in 1..31", width)
        require(1 <= self.bin_width <= 255, "labels.bin_width", "in 1..255", self.bin_width)
        require(2 <= self.clusters <= MOST_CLASSES, "labels.clusters", f"in 2..{MOST_CLASSES}", self.clusters)
        require(self.hood is None or self.hood[1] >= 0, "labels.hood", "a class and a row >= 0", self.hood)
        require_no_secret("labels", centroids=self.centroids)
