"""The metric card: by what rules the scores of a report were counted, so that they can be held against others."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from unet_ray.config_training import ModelSection
from unet_ray.intervals import DRAWS, MOST_UNITS
from unet_ray.labels.classes import ClassMap
from unet_ray.metrics import Scores
from unet_ray.report.content import Facts
from unet_ray.report.frames import Frames
from unet_ray.schema import IGNORE_INDEX
from unet_ray.table.plan import Plan
from unet_ray.table.read import Table

_MOST_VALUES = 6


def make_metric_card(table: Table, classes: ClassMap, scores: Scores, frames: Frames, dataset: Plan | None) -> Facts:
    """Return the rules as names and sentences; none where no pixel is labelled.

    Args:
        table: The predictions.
        classes: Their classes.
        scores: Of all frames.
        frames: The frames.
        dataset: Plan of the prepared dataset that the frames came from; None where it is gone, or there was none.
    """
    if scores.pixel_accuracy is None:
        return ()
    settings, totals = table.plan.settings, table.success.totals
    labelled, ignored = sum(totals["confusion"] or ()), sum(totals["ignored_pixels"] or ())
    return (
        ("counted", _counted(frames, labelled)),
        ("average", _average(classes, scores)),
        ("absent classes", _absent(classes, scores)),
        ("without a label", _ignored(classes, ignored, labelled)),
        ("padding", _padding(ModelSection(**table.plan.facts["model"]))),
        ("resolution", _resolution(frames, settings, dataset)),
        ("views", _views(settings)),
        ("tiles", _tiles(frames, settings["predict.forward_pixels"])),
        *_sequence_rules(settings),
        ("intervals", _intervals(frames)),
    )


def _counted(frames: Frames, labelled: int) -> str:
    quarantined = int((~frames.is_ok).sum())
    without = int((frames.is_ok & ~frames.has_truth).sum())
    left_out = ((without, "without truth"), (quarantined, "quarantined"))
    said = ", ".join(f"{number:,} {what}" for number, what in left_out if number)
    apart = f"; left out: {said}" if said else ""
    return f"{labelled:,} labelled pixels of {int(frames.has_truth.sum()):,} frames{apart}"


def _average(classes: ClassMap, scores: Scores) -> str:
    defined = sum(one.iou is not None for one in scores.classes)
    objects = "there is no background class, so object mIoU is the same"
    if classes.background is not None:
        objects = f"object mIoU leaves out {classes.classes[classes.background]}"
    return (
        f"pixels are added up over all frames, then the mean over {defined} of {classes.num_classes} classes is taken; "
        f"{objects}"
    )


def _absent(classes: ClassMap, scores: Scores) -> str:
    pairs = list(zip(classes.classes, scores.classes, strict=True))
    absent = [name for name, one in pairs if one.iou is None]
    mistaken = [name for name, one in pairs if one.iou is not None and not one.tp + one.fn]
    said = [f"left out of the mean: {', '.join(absent)}" if absent else "none"]
    if mistaken:
        said.append(f"predicted but never true, and counted as 0: {', '.join(mistaken)}")
    return "; ".join(said)


def _ignored(classes: ClassMap, ignored: int, labelled: int) -> str:
    recovery = classes.recovery
    keys = [key for key, class_id in zip(recovery.keys, recovery.class_ids, strict=True) if class_id == IGNORE_INDEX]
    names = [str(key[0]) if len(key) == 1 else str(key) for key in keys[:_MOST_VALUES]]
    values = ", ".join(names) + (" and more" if len(keys) > _MOST_VALUES else "")
    share = f"{ignored / (ignored + labelled):.1%} of the pixels of these frames"
    rules = [f"{share}, never counted, whatever was predicted there"]
    if keys:
        rules.append(f"in masks: {values}")
    if recovery.unknown == "ignore":
        rules.append("values of no class are ignored too")
    if recovery.hood is not None:
        rules.append(f"and {classes.classes[recovery.hood[0]]} from row {recovery.hood[1]} down")
    return "; ".join(rules)


def _padding(model: ModelSection) -> str:
    if model.sizes.margin:
        return f"frames are mirrored by {model.sizes.margin} px and more, and the output cropped: none of it is counted"
    return f"frames are padded to {model.sizes.rule}, and the output cropped: none of it is counted"


def _resolution(frames: Frames, settings: Mapping[str, Any], dataset: Plan | None) -> str:
    sizes = _sizes(frames.sizes)
    if "predict.images" in settings:
        return f"as in the files, {sizes}"
    if dataset is None or dataset.run_id != settings.get("data.dataset"):
        return f"as in the prepared dataset, {sizes}; whether that resized them is not known any more"
    if dataset.settings["data.resize"] is None:
        return f"as in the files, {sizes}"
    return f"resized by prepare, frames and masks alike, to {sizes} (data.resize)"


def _sizes(sizes: Sequence[tuple[int, int]]) -> str:
    smallest, largest = (f"{height} x {width} px" for height, width in (sizes[0], sizes[-1]))
    return f"{smallest} (height x width)" if len(sizes) == 1 else f"{len(sizes):,} sizes, {smallest} to {largest}"


def _views(settings: Mapping[str, Any]) -> str:
    flips, scales = settings["predict.flips"], settings["predict.scales"]
    if flips == "none" and scales == [1]:
        return "one, the frame as it is"
    return f"the mean of several (predict.flips {flips}, predict.scales {', '.join(f'{scale:g}' for scale in scales)})"


def _tiles(frames: Frames, most_pixels: int) -> str:
    if max(math.prod(size) for size in frames.sizes) <= most_pixels:
        return f"none, as no frame has more than {most_pixels:,} px"
    return f"frames of more than {most_pixels:,} px are cut, with so much overlap that the mask is that of the whole"


def _sequence_rules(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    rules = [
        f"{key} {settings[key]}"
        for key, plain in (("predict.copy_repeats", False), ("predict.segment_every", 1), ("predict.smooth_frames", 0))
        if settings[key] != plain
    ]
    if rules:
        yield "sequences", f"masks are not of each frame alone: {', '.join(rules)}"


def _intervals(frames: Frames) -> str:
    pooled = f", in {MOST_UNITS:,} random groups" if len(frames.is_ok) > MOST_UNITS else ""
    said = f"the middle 95 % of {DRAWS:,} draws of as many frames{pooled}, or sequences (bootstrap)"
    if len(frames.scored_groups) == 1:
        said += "; there is one sequence, so nothing says how scores vary from one to another"
    return said
