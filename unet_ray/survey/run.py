"""Scanning all masks of an input before anything is prepared, and saying what was found. Runs on the driver."""

import functools
import json
import logging
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pyarrow as pa

from unet_ray import pipeline, runtime, storage
from unet_ray.config import Config
from unet_ray.config_input import LabelsSection
from unet_ray.datasets import layouts
from unet_ray.datasets.frames import fetch_stored
from unet_ray.errors import ImageError
from unet_ray.faults import outlast
from unet_ray.labels.classes import ClassMap
from unet_ray.labels.scheme import make_class_map
from unet_ray.progress import Meter
from unet_ray.survey.findings import Findings, diagnose
from unet_ray.survey.page import Example, PageContent, render_page
from unet_ray.survey.scan import Lens, Scan, decode_as_stored, fits, known_colours, merge, scan_rows
from unet_ray.survey.suggestion import suggest
from unet_ray.survey.text import findings_text, suggestion_yaml
from unet_ray.table.commit import Progress
from unet_ray.table.plan import Plan, Terms, Unit, create_plan

logger = logging.getLogger(__name__)

_UNIT_ROWS = 32
_SHARD_ROWS = 512
_SAMPLED_MASKS = 512
_EXAMPLES = 3


@dataclass(frozen=True, kw_only=True)
class LabelsResult:
    """Where the report is, and its headline numbers. ``suggestion`` is a ``labels:`` section as YAML."""

    report: str
    page: str
    images: int
    masks: int
    problems: int
    suggestion: str
    seconds: float = field(compare=False)


def run(config: Config) -> LabelsResult:
    """Write ``labels/report.json`` and ``labels/index.html`` of a run, and print the findings to standard error.

    Raises:
        DatasetError: The input is empty or not laid out as promised.
        ResourceError: The cluster has no CPU.
    """
    started = time.monotonic()
    labels = layouts.labels_of(config)
    classes = _configured(labels)
    runtime.require_cpus(config.scaling)
    with _planned(config) as plan:
        logger.info("%d images found under %s", plan.num_rows, layouts.root_of(config))
        lens = Lens(
            classes=classes,
            policy=config.images,
            seed=config.run.seed,
            sampled_share=min(1.0, _SAMPLED_MASKS / plan.num_rows),
        )
        scan = merge(_scans(plan, lens), known_colours(classes))
        suggestion = suggest(scan, labels, classes)
        shown = classes
        if suggestion is not None and (classes is None or (classes.recovery.read == "ids") != (scan.form == "ids")):
            shown = make_class_map(suggestion.section)
        names = functools.partial(_image_ids, plan)
        found = diagnose(scan, plan.notes, labels, classes, suggestion, shown, names, config.run.seed)
        examples = _examples(plan, scan, lens, shown)
    report, page = f"{config.run_uri}/labels/report.json", f"{config.run_uri}/labels/index.html"
    storage.write(report, json.dumps(asdict(found), ensure_ascii=False, indent=1).encode())
    content = PageContent(
        title=f"{config.run.name}: label report",
        facts=_facts(config, found),
        found=found,
        examples=examples,
        names=shown.classes if shown else (),
        palette=shown.palette if shown else (),
    )
    storage.write(page, render_page(content).encode())
    sys.stderr.write(f"{findings_text(found)}\n\nreport: {page}\n")
    return LabelsResult(
        report=report,
        page=page,
        images=found.images,
        masks=found.masks,
        problems=len(found.problems),
        suggestion=suggestion_yaml(found),
        seconds=round(time.monotonic() - started, 1),
    )


def _configured(labels: LabelsSection) -> ClassMap | None:
    """Return the class map of the configured labels; None where there are none yet, or only prepare can fit them."""
    if labels.scheme == "kmeans" or not (labels.preset or labels.classes or labels.scheme == "bins"):
        return None
    return make_class_map(labels)


@contextmanager
def _planned(config: Config) -> Iterator[Plan]:
    """List the input into a plan that lasts as long as the ``with`` block, where tasks can read it."""
    uri = f"{config.run_uri}/labels/_scan/{uuid.uuid4().hex}"
    terms = Terms(kind="scan", settings={}, facts={}, summed=(), shard_rows=_SHARD_ROWS, unit_rows=_UNIT_ROWS)
    with layouts.list_inputs(config) as listing:
        plan = create_plan(uri, listing.rows(), terms, notes=listing.summary(), exclusive=False)
    try:
        yield plan
    finally:
        outlast(functools.partial(_delete_all, uri))


def _delete_all(uri: str) -> None:
    for item in list(storage.list_objects(uri)):
        storage.delete(item.uri)


def _scans(plan: Plan, lens: Lens) -> Iterator[Scan]:
    """Yield what tasks see, unit by unit."""
    meter, done = Meter("labels", "pairs"), 0
    stage = functools.partial(_scan_unit, plan=plan, lens=lens)
    for row in pipeline.collect(plan.units(range(plan.num_shards)), 1, stage):
        scan = Scan.from_json(row["scan"])
        done += sum(count for key, count in scan.counts.items() if key[0] == "images")
        meter(Progress(done=done, planned=plan.num_rows, resumed=0, quarantined=0))
        yield scan


def _scan_unit(unit: Unit, *, plan: Plan, lens: Lens) -> pa.Table:
    return pa.table({"scan": [scan_rows(plan.read(unit), lens).to_json()]})


def _row(plan: Plan, row_id: int) -> Mapping[str, Any]:
    shard, place = divmod(row_id, plan.shard_rows)
    return plan.read(Unit(shard, place // plan.unit_rows))[place % plan.unit_rows]


def _image_ids(plan: Plan, row_ids: Sequence[int]) -> list[str]:
    return [_row(plan, row_id)["image_id"] for row_id in row_ids]


def _examples(plan: Plan, scan: Scan, lens: Lens, shown: ClassMap | None) -> list[Example]:
    examples = []
    for _, row_id, _, _ in scan.samples[:_EXAMPLES]:
        row = _row(plan, row_id)
        try:
            decode = functools.partial(decode_as_stored, classes=lens.classes)
            pair = fetch_stored(row, decode, lens.policy)
        except ImageError as error:
            logger.warning("%s: not shown, the pair cannot be read any more: %s", row["image_id"], error)
            continue
        assert pair.mask is not None  # a sampled pair has one
        class_ids = None
        if shown is not None and fits(shown.recovery, pair.mask):
            class_ids = replace(shown.recovery, unknown="ignore").to_class_ids(pair.mask)
        examples.append(Example(image_id=row["image_id"], image=pair.image, stored=pair.mask, class_ids=class_ids))
    return examples


def _facts(config: Config, found: Findings) -> list[tuple[str, str]]:
    listing = found.listing
    return [
        ("input", f"{layouts.root_of(config)} ({config.data.layout})"),
        ("images", f"{found.images:,}"),
        ("usable masks", f"{found.masks:,}"),
        ("masks hold", ", ".join(f"{form} in {count:,}" for form, count in found.forms.items()) or "nothing"),
        ("sizes", ", ".join(f"{size} ({count:,})" for size, count in list(found.sizes.items())[:5]) or "none"),
        ("masks without an image", _with_examples(listing["unpaired_masks"], listing["unpaired_examples"])),
        ("other objects", _with_examples(listing["skipped_objects"], listing["skipped_examples"])),
        ("images listed again", f"{listing['repeated_images']:,}"),
    ]


def _with_examples(count: int, uris: Sequence[str]) -> str:
    return f"{count:,}: {', '.join(uris)}" if uris else f"{count:,}"
