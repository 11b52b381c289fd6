"""From what was seen to what is said: the numbers of a report, and its problems in words. Pure."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from unet_ray.config_input import LabelsSection
from unet_ray.datasets.splits import SPLITS
from unet_ray.labels.classes import ClassMap
from unet_ray.labels.recovery import unpack_colours
from unet_ray.metrics import median_frequency_weights
from unet_ray.schema import IGNORE_INDEX
from unet_ray.survey.scan import MOST_EXAMPLES, Scan, class_counts, known_values
from unet_ray.survey.schemes import Purity, measure_colours
from unet_ray.survey.suggestion import Suggestion, sample_of
from unet_ray.survey.tally import Tally
from unet_ray.survey.twins import find_twins

MOST_SHOWN = 40
"""Values, sizes and groups that a report lists."""

_HELD_OUT = (("val", "train"), ("test", "train"), ("test", "val"))


@dataclass(frozen=True, kw_only=True)
class ValueRow:
    """A value found in masks: an id, or a colour. ``class_name`` is None where labels do not know it."""

    value: int | list[int]
    class_name: str | None
    pixels: int
    share: float
    images: int


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """A class: pixels and images by split, its share of the labelled training pixels, and its weight in training."""

    name: str
    colour: tuple[int, int, int]
    pixels: dict[str, int]
    images: dict[str, int]
    share: float | None
    weight: float | None


@dataclass(frozen=True, kw_only=True)
class SplitRow:
    """A split: images listed, masks that can be read and fit, pixels ignored and of no class, classes that lack."""

    split: str
    images: int
    masks: int
    ignored_pixels: int
    unknown_pixels: int
    missing_classes: list[str]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Pairs with a fault, by code, and the first few as (image_id, message)."""

    code: str
    images: int
    examples: list[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Leak:
    """Images of a split that have a twin in another one, of how many, and a few as (image_id, image_id, bits)."""

    split: str
    other: str
    twins: int
    images: int
    examples: list[tuple[str, str, int]]
    shared_groups: int
    images_in_shared_groups: int


@dataclass(frozen=True, kw_only=True)
class Findings:
    """All a report says, in the order in which it is read; JSON by ``dataclasses.asdict``.

    ``values`` are the most frequent ones, exact where ``values_exact``; ``cells`` are the colours by their upper four
    bits a channel, always exact, given where values are not. ``unknown`` counts pixels and images of no class.
    """

    problems: list[str]
    images: int
    masks: int
    forms: dict[str, int]
    sizes: dict[str, int]
    num_values: int
    values_exact: bool
    values: list[ValueRow]
    cells: list[ValueRow]
    unknown: Fault | None
    splits: list[SplitRow]
    classes: list[ClassRow]
    faults: list[Fault]
    leaks: list[Leak]
    purity: list[Purity]
    suggestion: Suggestion | None
    listing: Mapping[str, Any]


def diagnose(
    scan: Scan,
    listing: Mapping[str, Any],
    labels: LabelsSection,
    classes: ClassMap | None,
    suggestion: Suggestion | None,
    shown: ClassMap | None,
    image_ids: Callable[[Sequence[int]], Sequence[str]],
    seed: int,
) -> Findings:
    """Draw the conclusions of a scan.

    Args:
        scan: Of all pairs.
        listing: `Listing.summary` of the input.
        labels: The configured section, with what the layout brings.
        classes: Its class map, None where no labels are configured yet.
        suggestion: What `suggestion.suggest` says.
        shown: The class map that masks are shown by, the configured or the suggested one.
        image_ids: From row_ids to image_ids.
        seed: Of what is fitted to the sample.
    """
    forms = {form: scan.counts["form", form] for form in ("ids", "colours") if scan.counts["form", form]}
    form = scan.form
    tally = scan.ids if form == "ids" else scan.colours
    faults = [_fault(scan, key[1], image_ids) for key in sorted(scan.counts) if key[0] == "error"]
    unknown = next((fault for fault in faults if fault.code == "unknown_value"), None)
    faults = sorted((fault for fault in faults if fault is not unknown), key=lambda fault: -fault.images)
    splits = [_split_row(scan, split, classes) for split in SPLITS if scan.counts["images", split]]
    sizes = Counter({key[1]: count for key, count in scan.counts.items() if key[0] == "size"})
    leaks = [leak for pair in _HELD_OUT if (leak := _leak(scan, *pair, image_ids)) is not None]
    found = Findings(
        problems=[],
        images=sum(row.images for row in splits),
        masks=sum(row.masks for row in splits),
        forms=forms,
        sizes=dict(sizes.most_common(MOST_SHOWN)),
        num_values=len(tally.rows),
        values_exact=not tally.dropped,
        values=_value_rows(tally, form, classes),
        cells=_value_rows(scan.cells, "colours", None) if form == "colours" and tally.dropped else [],
        unknown=unknown,
        splits=splits,
        classes=_class_rows(scan, splits, classes),
        faults=faults,
        leaks=leaks,
        purity=_purity(scan, form, labels, shown, seed),
        suggestion=suggestion,
        listing=listing,
    )
    return replace(found, problems=_problems(found))


def _problems(found: Findings) -> list[str]:
    lines = [f"{fault.images} of {found.images} images: {fault.code}" for fault in found.faults]
    if found.unknown is not None:
        pixels = sum(row.unknown_pixels for row in found.splits)
        lines.append(f"{found.unknown.images} masks hold values of no class, {pixels} px")
    if found.listing["unpaired_masks"]:
        lines.append(f"{found.listing['unpaired_masks']} masks belong to no image")
    if found.listing["repeated_images"]:
        lines.append(f"{found.listing['repeated_images']} images are listed more than once")
    if len(found.forms) > 1:
        lines.append(f"{found.forms['ids']} masks are files of ids, {found.forms['colours']} of colours")
    for row in found.splits:
        if row.missing_classes:
            lines.append(f"{row.split} has no pixel of {', '.join(row.missing_classes)}")
    for leak in found.leaks:
        if leak.twins:
            lines.append(f"{leak.twins} of {leak.images} {leak.split} images have a near duplicate in {leak.other}")
        if leak.images_in_shared_groups:
            lines.append(
                f"{leak.images_in_shared_groups} {leak.split} images are of groups that {leak.other} has images of too"
            )
    return lines


def _fault(scan: Scan, code: str, image_ids: Callable[[Sequence[int]], Sequence[str]]) -> Fault:
    examples = scan.examples[code]
    names = image_ids([row_id for row_id, _ in examples])
    return Fault(
        code=code,
        images=scan.counts["error", code],
        examples=[(name, message) for name, (_, message) in zip(names, examples, strict=True)],
    )


def _split_row(scan: Scan, split: str, classes: ClassMap | None) -> SplitRow:
    missing = []
    if classes is not None and scan.counts["masks", split]:
        pixels = class_counts(scan, "class_pixels", split, classes.num_classes)
        missing = [name for name, count in zip(classes.classes, pixels, strict=True) if not count]
    return SplitRow(
        split=split,
        images=scan.counts["images", split],
        masks=scan.counts["masks", split],
        ignored_pixels=scan.counts["ignored_pixels", split],
        unknown_pixels=scan.counts["unknown_pixels", split],
        missing_classes=missing,
    )


def _class_rows(scan: Scan, splits: Sequence[SplitRow], classes: ClassMap | None) -> list[ClassRow]:
    if classes is None:
        return []
    names = [row.split for row in splits]
    pixels = {split: class_counts(scan, "class_pixels", split, classes.num_classes) for split in names}
    images = {split: class_counts(scan, "class_images", split, classes.num_classes) for split in names}
    train = pixels.get("train", [0] * classes.num_classes)
    weights = median_frequency_weights(train, class_counts(scan, "class_image_pixels", "train", classes.num_classes))
    total = sum(train)
    return [
        ClassRow(
            name=name,
            colour=classes.palette[k],
            pixels={split: pixels[split][k] for split in names},
            images={split: images[split][k] for split in names},
            share=train[k] / total if total else None,
            weight=weights[k],
        )
        for k, name in enumerate(classes.classes)
    ]


def _value_rows(tally: Tally, form: str, classes: ClassMap | None) -> list[ValueRow]:
    most = tally.rows[np.argsort(-tally.rows[:, 1], kind="stable")[:MOST_SHOWN]]
    names: list[str | None] = [None] * len(most)
    if classes is not None and len(most):
        names = [_name_of(value, form, classes) for value in most[:, 0]]
    return [
        ValueRow(
            value=value if form == "ids" else [value & 255, value >> 8 & 255, value >> 16 & 255],
            class_name=name,
            pixels=pixels,
            share=pixels / tally.pixels,
            images=images,
        )
        for (value, pixels, images), name in zip(most.tolist(), names, strict=True)
    ]


def _name_of(value: np.int64, form: str, classes: ClassMap) -> str | None:
    values = np.array([value])
    if not known_values(values, form, classes.recovery)[0]:
        return None
    pixels = values.astype(np.uint16)[None] if form == "ids" else unpack_colours(values.astype(np.uint32))[None]
    class_id = int(classes.recovery.to_class_ids(pixels)[0, 0])
    return "ignored" if class_id == IGNORE_INDEX else classes.classes[class_id]


def _leak(scan: Scan, split: str, other: str, image_ids: Callable[[Sequence[int]], Sequence[str]]) -> Leak | None:
    if split not in scan.thumbs or other not in scan.thumbs:
        return None
    mine, others = scan.thumbs[split], scan.thumbs[other]
    twins = find_twins(mine["grey"], others["grey"])
    first = np.argsort(twins.bits, kind="stable")[:MOST_EXAMPLES]
    names = image_ids(mine["row_id"][twins.frames[first]].tolist())
    other_names = image_ids(others["row_id"][twins.others[first]].tolist())
    groups = {key[2]: count for key, count in scan.counts.items() if key[:2] == ("group", split) and key[2]}
    shared = [name for name in groups if scan.counts["group", other, name]]
    return Leak(
        split=split,
        other=other,
        twins=len(twins.frames),
        images=len(mine),
        examples=list(zip(names, other_names, twins.bits[first].tolist(), strict=True)),
        shared_groups=len(shared),
        images_in_shared_groups=sum(groups[name] for name in shared),
    )


def _purity(scan: Scan, form: str, labels: LabelsSection, classes: ClassMap | None, seed: int) -> list[Purity]:
    if form == "ids":
        if not scan.ids.pixels:
            return []
        share = None
        if classes is not None:
            known = known_values(scan.ids.rows[:, 0], "ids", classes.recovery)
            share = int(scan.ids.rows[known, 1].sum()) / scan.ids.pixels
        return [Purity("ids", share, "pixels of a known id, configured or else suggested, in all masks")]
    pixels = sample_of(scan, "colours")
    if not len(pixels):
        return []
    palette: list[tuple[int, int, int]] = []
    if classes is not None and classes.recovery.read == "colour":
        palette = [(key[0], key[1], key[2]) for key in classes.recovery.keys]
    return measure_colours(pixels, palette, bin_width=labels.bin_width, clusters=labels.clusters, seed=seed)
