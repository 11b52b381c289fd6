"""From the ``labels`` section, or a layout's preset, to a class map. Runs on the driver."""

import colorsys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import count

from unet_ray.config_input import Colour, LabelsSection
from unet_ray.errors import ConfigError
from unet_ray.labels.classes import ClassMap
from unet_ray.labels.presets import PRESETS, Label, Preset
from unet_ray.labels.recovery import Read, Recovery
from unet_ray.schema import IGNORE_INDEX


def make_class_map(labels: LabelsSection) -> ClassMap:
    """Return the class map of a section, whose scheme is not kmeans: that one needs `make_cluster_map`.

    Raises:
        ConfigError: There are no classes, or settings do not fit together.
    """
    source = _source(labels)
    groups = _groups(labels, source)
    classes = tuple(groups)
    first = {label.name: label for label in source.labels}
    palette = tuple(first[members[0]].colour for members in groups.values())
    if labels.preset is not None and labels.palette:
        _require_length("palette", labels.palette, len(classes))
        palette = labels.palette
    background = labels.background
    if background is None and source.background in groups:
        background = source.background
    class_of = {name: class_id for class_id, members in enumerate(groups.values()) for name in members}
    keys = _keys(labels, source, class_of)
    return ClassMap(
        classes=classes,
        palette=palette,
        background=None if background is None else _index(classes, background),
        recovery=_recovery(labels, keys, classes),
    )


def make_cluster_map(labels: LabelsSection, centroids: Sequence[Colour]) -> ClassMap:
    """Return the class map of K-Means centroids: a class each, named after the label of the nearest known colour.

    Colours that mean "no label" are known as void. Where several centroids have the same name the later ones get a
    number; without known colours all are numbered.

    Raises:
        ConfigError: As `check_labels`, and labels.background or labels.hood names no cluster.
    """
    source = _cluster_source(labels)
    names: list[str] = []
    for number, centroid in enumerate(centroids):
        near = min(source.labels, key=lambda label: _square_distance(label.colour, centroid), default=None)
        name = f"cluster_{number}" if near is None else near.name
        numbered = (f"{name}_{repeat}" for repeat in count(2))
        names.append(name if name not in names else next(other for other in numbered if other not in names))
    background = labels.background
    if background is None and source.background in names:
        background = source.background
    return ClassMap(
        classes=tuple(names),
        palette=tuple(centroids),
        background=None if background is None else _index(names, background),
        recovery=_recovery(labels, {centroid: class_id for class_id, centroid in enumerate(centroids)}, names),
    )


def check_labels(labels: LabelsSection) -> None:
    """Refuse a section whose settings do not fit together, before anything is read.

    Raises:
        ConfigError: As `make_class_map`; for K-Means, whose classes are not known yet, settings without a meaning for
            clusters.
    """
    if labels.scheme == "kmeans":
        _cluster_source(labels)
    else:
        make_class_map(labels)


def generate_palette(num_classes: int) -> tuple[Colour, ...]:
    """Return distinguishable colours: hues a golden angle apart, two levels of lightness."""
    colours = []
    for class_id in range(num_classes):
        rgb = colorsys.hls_to_rgb(class_id * 0.618034 % 1, 0.42 + 0.2 * (class_id % 2), 0.62)
        colours.append((round(255 * rgb[0]), round(255 * rgb[1]), round(255 * rgb[2])))
    return tuple(colours)


def _source(labels: LabelsSection) -> Preset:
    """Return the labels as they are stored, before they are grouped."""
    if labels.preset is not None:
        for key, what in (("classes", "classes"), ("values", "stored values")):
            if getattr(labels, key):
                raise ConfigError(f"labels.{key}: labels.preset knows the {what} already; give one of the two")
        if labels.scheme == "bins":
            raise ConfigError("labels.preset: no table has bins; leave it out, or name the bins in labels.classes")
        return PRESETS[labels.preset]
    names = labels.classes
    if labels.scheme == "bins":
        num_bins = -(-256 // labels.bin_width)
        names = names or tuple(f"bin_{number}" for number in range(num_bins))
        if len(names) > num_bins:
            raise ConfigError(
                f"labels.classes: must be at most {num_bins} where labels.bin_width is {labels.bin_width}, "
                f"got {len(names)}"
            )
    if not names:
        raise ConfigError(
            "labels.classes: must name the classes, position = class_id, or labels.preset a table of them; this layout "
            "has none of its own"
        )
    for key, given in (("palette", labels.palette), ("values", labels.values)):
        if given:
            _require_length(key, given, len(names))
    if labels.scheme in ("colours", "kmeans") and not labels.palette:
        raise ConfigError(f"labels.palette: must hold the colour of each class where labels.scheme is {labels.scheme}")
    values, palette = labels.values or range(len(names)), labels.palette or generate_palette(len(names))
    return Preset(
        labels=tuple(map(Label, names, values, palette)),
        ignore_ids=() if labels.scheme == "bins" or IGNORE_INDEX in values else (IGNORE_INDEX,),
    )


def _cluster_source(labels: LabelsSection) -> Preset:
    """Return the labels that give clusters their names, without any where none are known."""
    useless = ("groups", "ignore_colours", *(("palette",) if labels.preset else ()))
    for key in useless:
        if getattr(labels, key):
            raise ConfigError(
                f"labels.{key}: has no meaning where labels.scheme is kmeans, whose clusters are the classes; "
                "leave it out"
            )
    if not (labels.preset or labels.classes or labels.palette):
        return Preset(labels=())
    source = _source(labels)
    _check_names("leave_out", labels.leave_out, source)
    kept = (label for label in source.labels if label.name not in labels.leave_out)
    void = (Label("void", IGNORE_INDEX, colour) for colour in source.ignore_colours)
    return replace(source, labels=(*kept, *void))


def _groups(labels: LabelsSection, source: Preset) -> Mapping[str, tuple[str, ...]]:
    """Return the labels that make up each class."""
    _check_names("leave_out", labels.leave_out, source)
    for name, members in (labels.groups or {}).items():
        _check_names(f"groups.{name}", members, source)
    known = [label.name for label in source.labels]
    groups = labels.groups or source.groups or {name: (name,) for name in known}
    kept = {
        name: tuple(member for member in members if member not in labels.leave_out) for name, members in groups.items()
    }
    for name, times in Counter(member for members in kept.values() for member in members).items():
        if times > 1:
            raise ConfigError(f"labels.groups: must have each label in one group, {name!r} is in {times}")
    filled = {name: members for name, members in kept.items() if members}
    if not filled:
        raise ConfigError("labels.leave_out: must leave a class, got all labels")
    return filled


def _keys(labels: LabelsSection, source: Preset, class_of: Mapping[str, int]) -> dict[tuple[int, ...], int]:
    """Return the class of each stored value or colour.

    Labels of a preset may share a colour: a class wins over an ignored label, and the first class over later ones.
    """
    keys: dict[tuple[int, ...], int] = {}
    for key, name in _stored(labels, source):
        if name in labels.leave_out:
            continue
        class_id = class_of.get(name, IGNORE_INDEX)
        first = keys.setdefault(key, class_id)
        if first == IGNORE_INDEX:
            keys[key] = class_id
        elif labels.preset is None and class_id not in (first, IGNORE_INDEX):
            what = "palette" if labels.scheme == "colours" else "values"
            raise ConfigError(
                f"labels.{what}: must tell classes apart, {', '.join(map(str, key))} is that of {name!r} and of another"
            )
    if labels.scheme == "colours":
        ignored: list[tuple[int, ...]] = [*source.ignore_colours, *labels.ignore_colours]
    else:
        ignored = [(value,) for value in (source.ignore_ids if labels.ignore_ids is None else labels.ignore_ids)]
    return keys | dict.fromkeys(ignored, IGNORE_INDEX)


def _stored(labels: LabelsSection, source: Preset) -> list[tuple[tuple[int, ...], str]]:
    """Return what masks hold, each with the name of its label."""
    if labels.scheme == "bins":
        last = len(source.labels) - 1
        return [((value,), source.labels[min(value // labels.bin_width, last)].name) for value in range(256)]
    return [(label.colour if labels.scheme == "colours" else (label.value,), label.name) for label in source.labels]


def _recovery(labels: LabelsSection, keys: Mapping[tuple[int, ...], int], classes: Sequence[str]) -> Recovery:
    reads: dict[str, Read] = {
        "ids": "ids", "channel": labels.channel, "colours": "colour", "bins": "bins", "kmeans": "colour"
    }  # fmt: skip
    far = "any" if labels.scheme == "kmeans" else labels.max_distance or 0
    hood = None
    if labels.hood is not None:
        name, row = labels.hood
        hood = (_index(classes, name, "labels.hood"), row)
    ordered = sorted(keys.items())
    return Recovery(
        read=reads[labels.scheme or "ids"],
        keys=tuple(key for key, _ in ordered),
        class_ids=tuple(class_id for _, class_id in ordered),
        max_distance=None if far == "any" else far,
        unknown=labels.unknown,
        mode_filter=labels.mode_filter or 1,
        hood=hood,
    )


def _check_names(key: str, names: Iterable[str], source: Preset) -> None:
    known = [label.name for label in source.labels]
    for name in names:
        if name not in known:
            raise ConfigError(f"labels.{key}: must name labels ({', '.join(known)}), got {name!r}")


def _index(classes: Sequence[str], name: str, key: str = "labels.background") -> int:
    if name not in classes:
        raise ConfigError(f"{key}: must be one of the classes ({', '.join(classes)}), got {name!r}")
    return classes.index(name)


def _require_length(key: str, given: Sequence[object], num_classes: int) -> None:
    if len(given) != num_classes:
        what = "colour" if key == "palette" else "value"
        raise ConfigError(f"labels.{key}: must hold a {what} per class, got {len(given)} for {num_classes} classes")


def _square_distance(one: Colour, other: Colour) -> int:
    return sum((a - b) ** 2 for a, b in zip(one, other, strict=True))
