"""From the ``labels`` section, or a layout's preset, to a class map. Runs on the driver."""

import colorsys
from collections import Counter
from collections.abc import Mapping, Sequence

from unet_ray.config_input import LabelsSection
from unet_ray.errors import ConfigError
from unet_ray.labels.classes import ClassMap
from unet_ray.labels.presets import PRESETS, Colour, Label, Preset
from unet_ray.labels.recovery import Read, Recovery
from unet_ray.schema import IGNORE_INDEX


def make_class_map(labels: LabelsSection) -> ClassMap:
    """Return the class map of a section; ``labels.scheme: kmeans`` needs `make_cluster_map` instead.

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
    """Return the class map of K-Means centroids: a class each, named after the nearest known colour.

    Where several have the same nearest colour, the later ones get a number; without known colours all are numbered.
    """
    known = _source(labels).labels if labels.preset or labels.classes else ()
    names: list[str] = []
    seen: Counter[str] = Counter()
    for number, centroid in enumerate(centroids):
        near = min(known, key=lambda label: _square_distance(label.colour, centroid), default=None)
        name = f"cluster_{number}" if near is None else near.name
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    keys = {tuple(centroid): class_id for class_id, centroid in enumerate(centroids)}
    return ClassMap(
        classes=tuple(names),
        palette=tuple(centroids),
        background=None if labels.background is None else _index(names, labels.background),
        recovery=Recovery(
            read="colour", keys=tuple(keys), class_ids=tuple(keys.values()), max_distance=None,
            mode_filter=labels.mode_filter or 1,
        ),
    )  # fmt: skip


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
        if labels.classes:
            raise ConfigError("labels.classes: labels.preset names the classes already; give one of the two")
        return PRESETS[labels.preset]
    if not labels.classes and labels.scheme == "bins":
        names = tuple(f"bin_{number}" for number in range(-(-256 // labels.bin_width)))
    elif not labels.classes:
        raise ConfigError(
            "labels.classes: must name the classes, position = class_id, or labels.preset a table of them; this layout "
            "has none of its own"
        )
    else:
        names = labels.classes
    for key, given in (("palette", labels.palette), ("values", labels.values)):
        if given:
            _require_length(key, given, len(names))
    if labels.scheme == "colours" and not labels.palette:
        raise ConfigError("labels.palette: must hold the colour of each class where labels.scheme is colours")
    values, palette = labels.values or range(len(names)), labels.palette or generate_palette(len(names))
    return Preset(labels=tuple(map(Label, names, values, palette)), ignore_ids=(IGNORE_INDEX,))


def _groups(labels: LabelsSection, source: Preset) -> Mapping[str, tuple[str, ...]]:
    """Return the labels that make up each class."""
    known = [label.name for label in source.labels]
    given = {"leave_out": labels.leave_out, **{f"groups.{k}": v for k, v in (labels.groups or {}).items()}}
    for key, names in given.items():
        for name in names:
            if name not in known:
                raise ConfigError(f"labels.{key}: must name labels ({', '.join(known)}), got {name!r}")
    groups = labels.groups or source.groups or {name: (name,) for name in known}
    kept = {
        name: tuple(member for member in members if member not in labels.leave_out) for name, members in groups.items()
    }
    for name, count in Counter(member for members in kept.values() for member in members).items():
        if count > 1:
            raise ConfigError(f"labels.groups: must have each label in one group, {name!r} is in {count}")
    return {name: members for name, members in kept.items() if members}


def _keys(labels: LabelsSection, source: Preset, class_of: Mapping[str, int]) -> dict[tuple[int, ...], int]:
    """Return the class of each stored value or colour; where two labels share one, a class wins over an ignored one."""
    if labels.scheme == "bins":
        last = len(source.labels) - 1
        return {(value,): min(value // labels.bin_width, last) for value in range(256)}
    keys: dict[tuple[int, ...], int] = {}
    for label in source.labels:
        if label.name in labels.leave_out:
            continue
        key = label.colour if labels.scheme == "colours" else (label.value,)
        class_id = class_of.get(label.name, IGNORE_INDEX)
        if keys.get(key, IGNORE_INDEX) == IGNORE_INDEX:
            keys[key] = class_id
    if labels.scheme == "colours":
        for colour in (*source.ignore_colours, *labels.ignore_colours):
            keys[colour] = IGNORE_INDEX
    else:
        for value in source.ignore_ids if labels.ignore_ids is None else labels.ignore_ids:
            keys[(value,)] = IGNORE_INDEX
    return keys


def _recovery(labels: LabelsSection, keys: Mapping[tuple[int, ...], int], classes: Sequence[str]) -> Recovery:
    reads: dict[str, Read] = {"ids": "ids", "colours": "colour", "bins": "red", "channel": labels.channel}
    far = labels.max_distance or 0
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
