"""Gathering what a report shows, and writing it; reads the history and a published predictions table, without Ray."""

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from unet_ray import storage
from unet_ray.calibration import BINS, calibrate
from unet_ray.config import Config
from unet_ray.config_training import ModelSection
from unet_ray.drift import drift_from_validation
from unet_ray.errors import NotFoundError, TableError
from unet_ray.history import read_history
from unet_ray.intervals import Intervals, bootstrap
from unet_ray.job_record import read_job
from unet_ray.labels.classes import ClassMap
from unet_ray.metrics import Scores, score
from unet_ray.report import legacy
from unet_ray.report.classic import write_classic
from unet_ray.report.content import ClassRow, Headline, ReportContent, Step
from unet_ray.report.facts import list_facts, list_job
from unet_ray.report.frames import read_frames
from unet_ray.report.legacy import score_as
from unet_ray.report.metric_card import make_metric_card
from unet_ray.report.page import render_page
from unet_ray.report.panels import make_panels
from unet_ray.report.sequences import list_sequences
from unet_ray.report.text import card_text, class_table, legacy_table
from unet_ray.table.plan import Plan, find_plan
from unet_ray.table.read import Table, open_table

_NOTES = (
    "IoU = TP / (TP + FP + FN), Dice = 2 TP / (2 TP + FP + FN), precision = TP / (TP + FP), recall = TP / (TP + FN), "
    "from pixel counts summed over all frames.",
    "The mIoU of one frame is the mean over the classes in its truth or its prediction; the mean of these is another "
    "number than the mIoU of all frames.",
    "An interval over frames takes them as independent of each other. Those of a sequence are not: it is too narrow; "
    "one over sequences is right, but rough where they are fewer than ten.",
    "The calibration error is the mean distance, over all labelled pixels, between the confidence of a bin and its "
    "share of right pixels (Guo et al. 2017, 15 bins).",
)


@dataclass(frozen=True, kw_only=True)
class ReportResult:
    """Where the page is, and its headline numbers; None without truth, or a validation to tell ``drift`` from.

    ``over_frames`` and ``over_groups`` are 95 % intervals of the scores, None where there are not two to draw from.
    ``classic_files`` were written to ``report.classic``.
    """

    report: str
    frames: int
    quarantined: int
    miou: float | None
    object_miou: float | None
    pixel_accuracy: float | None
    over_frames: Intervals | None
    over_groups: Intervals | None
    calibration_error: float | None
    drift: float | None
    classic_files: int


def run(config: Config) -> ReportResult:
    """Write ``report/index.html`` of a run; print its class table, and how it was counted, to standard error.

    Raises:
        TableError: The predictions are missing or not complete.
    """
    table = open_table(config.predictions_uri)
    classes = ClassMap.from_facts(table.plan.facts)
    counts = table.success.totals["confusion"] or [0] * classes.num_classes**2
    scores = score(counts, classes.background)
    frames = read_frames(table, classes.num_classes, classes.background, config.run.seed)
    over_frames = bootstrap(frames.margins_U3K, classes.background, config.run.seed)
    over_groups = bootstrap(frames.margins_G3K[frames.scored_groups], classes.background, config.run.seed)
    record = read_job(table.uri)
    content = ReportContent(
        title=f"{config.run.name}: segmentation report",
        headlines=_headlines(scores, over_frames, over_groups, len(frames.scored_groups)),
        metric_card=make_metric_card(table, classes, scores, frames, _find_dataset(config)),
        facts=list_facts(config, table, frames),
        job=None if record is None else list_job(record),
        history=_history(config),
        classes=_class_rows(table, classes, scores),
        legacy=_legacy(config, table, classes),
        confusion=np.array(counts, np.int64).reshape(classes.num_classes, -1),
        calibration=calibrate(table.success.totals["calibration"] or [0] * 3 * BINS),
        sequences=list_sequences(frames, classes.background),
        drift=drift_from_validation(table),
        panels=tuple(make_panels(config, table, classes, frames)),
        quarantined=frames.quarantined,
        quarantined_total=table.success.num_quarantined,
        notes=_NOTES,
    )
    uri = f"{config.report_uri}/index.html"
    storage.write(uri, render_page(content).encode())
    classic_files = 0
    if config.report.classic is not None:
        classic_files = write_classic(
            config.report.classic,
            content.history,
            content.panels,
            scores,
            classes.palette,
            record,
            ModelSection(**table.plan.facts["model"]),
        )
    tables = (
        class_table(content.classes, content.headlines),
        legacy_table(content.legacy),
        card_text(content.headlines, content.metric_card),
    )
    sys.stderr.write("\n\n".join([*filter(None, tables), f"report: {uri}\n"]))
    return ReportResult(
        report=uri,
        frames=table.success.num_rows,
        quarantined=table.success.num_quarantined,
        miou=scores.miou,
        object_miou=scores.object_miou,
        pixel_accuracy=scores.pixel_accuracy,
        over_frames=over_frames,
        over_groups=over_groups,
        calibration_error=content.calibration.error,
        drift=None if content.drift is None else content.drift.largest,
        classic_files=classic_files,
    )


def _headlines(
    scores: Scores, over_frames: Intervals | None, over_groups: Intervals | None, groups: int
) -> tuple[Headline, ...]:
    return tuple(
        Headline(
            name=name,
            value=getattr(scores, key),
            over_frames=getattr(over_frames, key, None),
            over_groups=getattr(over_groups, key, None),
            groups=groups,
        )
        for key, name in (("miou", "mIoU"), ("object_miou", "object mIoU"), ("pixel_accuracy", "pixel accuracy"))
    )


def _class_rows(table: Table, classes: ClassMap, scores: Scores) -> tuple[ClassRow, ...]:
    totals = table.success.totals
    nothing = [0] * classes.num_classes
    counts = zip(totals["class_pixels"] or nothing, totals["confidence_sum"] or nothing, strict=True)
    return tuple(
        ClassRow(
            class_id=class_id,
            name=name,
            colour=colour,
            score=one,
            predicted=predicted,
            confidence=confidence / (255 * predicted) if predicted else None,
        )
        for class_id, (name, colour, one, (predicted, confidence)) in enumerate(
            zip(classes.classes, classes.palette, scores.classes, counts, strict=True)
        )
    )


def _history(config: Config) -> tuple[dict[str, Any], ...]:
    try:
        return tuple(read_history(config.train_uri))
    except NotFoundError:
        return ()


def _legacy(config: Config, table: Table, classes: ClassMap) -> tuple[Step, ...]:
    if config.report.legacy is None:
        return ()
    return score_as(config.report.legacy, table.scan(legacy.COLUMNS), classes.background)


def _find_dataset(config: Config) -> Plan | None:
    """Return the plan of the prepared dataset, None where there is none that can be read."""
    try:
        return find_plan(config.dataset_uri)
    except TableError:
        return None
