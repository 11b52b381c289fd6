"""The findings as plain text, for a terminal or a log."""

from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from unet_ray.columns import align
from unet_ray.survey.findings import Findings, ValueRow

_MOST_VALUES = 20


class _FlatLists(yaml.SafeDumper):
    pass


def _represent_flat(dumper: yaml.SafeDumper, data: Sequence[Any]) -> yaml.SequenceNode:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=True)


_FlatLists.add_representer(list, _represent_flat)


def findings_text(found: Findings) -> str:
    """Return the findings in paragraphs of aligned columns, the problems and the suggested labels last."""
    return "\n\n".join("\n".join(lines) for lines in _paragraphs(found))


def suggestion_yaml(found: Findings) -> str:
    """Return the suggested section as YAML that a configuration takes, empty where there is none."""
    if found.suggestion is None:
        return ""
    return yaml.dump(
        {"labels": found.suggestion.labels}, Dumper=_FlatLists, sort_keys=False, allow_unicode=True, width=110
    )


def value_text(row: ValueRow) -> str:
    """Return the value of a row: a number, or a colour as (r, g, b)."""
    return str(row.value) if isinstance(row.value, int) else f"({', '.join(map(str, row.value))})"


def _paragraphs(found: Findings) -> Iterator[Sequence[str]]:
    rows = [
        (value_text(r), r.class_name or "-", f"{r.pixels:,}", f"{r.share:.2%}", f"{r.images:,}") for r in found.values
    ]
    if rows:
        at_least = "" if found.values_exact else " (at least)"
        yield align([("value", "class", f"pixels{at_least}", "share", "images"), *rows[:_MOST_VALUES]])
    splits = [row.split for row in found.splits]
    if found.classes:
        header = ("class", *(f"{split} {what}" for split in splits for what in ("px", "images")), "share", "weight")
        yield align(
            [
                header,
                *(
                    (
                        row.name,
                        *(f"{count[split]:,}" for split in splits for count in (row.pixels, row.images)),
                        "-" if row.share is None else f"{row.share:.2%}",
                        "-" if row.weight is None else f"{row.weight:.3f}",
                    )
                    for row in found.classes
                ),
            ]
        )
    if found.splits:
        columns = ("split", "images", "masks", "ignored px", "unknown px")
        yield align(
            [
                columns,
                *(
                    (r.split, f"{r.images:,}", f"{r.masks:,}", f"{r.ignored_pixels:,}", f"{r.unknown_pixels:,}")
                    for r in found.splits
                ),
            ]
        )
    if found.purity:
        yield align(
            [("scheme", "purity"), *((p.scheme, "-" if p.share is None else f"{p.share:.2%}") for p in found.purity)]
        )
    faults = [fault for fault in (*found.faults, found.unknown) if fault is not None]
    examples = [f"{fault.code}: {name}: {text}" for fault in faults for name, text in fault.examples]
    leaks = [
        f"{leak.split} / {leak.other}: {one} and {other} ({bits} bits apart)"
        for leak in found.leaks
        for one, other, bits in leak.examples
    ]
    if examples or leaks:
        yield [*examples, *leaks]
    yield [
        f"{len(found.problems)} problem{'s' * (len(found.problems) != 1)}",
        *(f"- {problem}" for problem in found.problems),
    ]
    if found.suggestion is not None:
        yield [f"suggested labels ({found.suggestion.reason}):", suggestion_yaml(found).rstrip()]
