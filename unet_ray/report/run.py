"""Gathering what a report shows, and writing it; reads the history and a published predictions table, without Ray."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from unet_ray import storage
from unet_ray.calibration import BINS, calibrate
from unet_ray.config import Config
from unet_ray.drift import drift_from_validation
from unet_ray.errors import NotFoundError
from unet_ray.history import read_history
from unet_ray.job_record import describe_job, read_job
from unet_ray.labels.classes import ClassMap
from unet_ray.metrics import Scores, score
from unet_ray.report.classic import write_classic
from unet_ray.report.content import ClassRow, Quarantined, ReportContent
from unet_ray.report.page import render_page
from unet_ray.report.panels import COLUMNS, make_panels
from unet_ray.report.text import class_table
from unet_ray.schema import OK
from unet_ray.table.read import Table, open_table

_MOST_QUARANTINED = 50
_TOLD = ("expected_miou", "copied_from")
_NOTES = (
    "IoU = TP / (TP + FP + FN), from pixel counts summed over all frames; a class that occurs neither in truth nor in "
    "prediction has none.",
    "mIoU is the mean over the classes that have an IoU; object mIoU leaves out the background class, if there is one.",
    "The calibration error is the mean distance, over all labelled pixels, between the confidence of a bin and its "
    "share of right pixels (Guo et al. 2017, 15 bins).",
    "Pixels without a label are never counted. Padding is cropped before counting.",
)


@dataclass(frozen=True, kw_only=True)
class ReportResult:
    """Where the page is, and its headline numbers; None without truth, or a validation to tell ``drift`` from.

    ``classic_files`` were written to ``report.classic``.
    """

    report: str
    frames: int
    quarantined: int
    miou: float | None
    object_miou: float | None
    pixel_accuracy: float | None
    calibration_error: float | None
    drift: float | None
    classic_files: int


def run(config: Config) -> ReportResult:
    """Write ``report/index.html`` of a run and print its class table to standard error.

    Raises:
        TableError: The predictions are missing or not complete.
    """
    table = open_table(config.predictions_uri)
    classes = ClassMap.from_facts(table.plan.facts)
    counts = table.success.totals["confusion"] or [0] * classes.num_classes**2
    scores = score(counts, classes.background)
    calibration = calibrate(table.success.totals["calibration"] or [0] * 3 * BINS)
    rows = table.read([*COLUMNS, *_TOLD, "image_id", "status", "error_code", "error_message"])
    ok = rows.filter(pc.equal(rows["status"], OK))
    quarantined = rows.filter(pc.not_equal(rows["status"], OK))
    class_rows = _class_rows(table, classes, scores)
    drift = drift_from_validation(table)
    headline = (
        ("mIoU", scores.miou),
        ("object mIoU", scores.object_miou),
        ("pixel accuracy", scores.pixel_accuracy),
    )
    content = ReportContent(
        title=f"{config.run.name}: segmentation report",
        facts=_facts(config, table, ok),
        scores=headline,
        classes=class_rows,
        confusion=np.array(counts, np.int64).reshape(classes.num_classes, -1),
        calibration=calibration,
        drift=drift,
        history=_history(config),
        panels=tuple(make_panels(config, table, classes, ok)),
        quarantined=tuple(
            Quarantined(image_id=row["image_id"], error_code=row["error_code"], error_message=row["error_message"])
            for row in quarantined.slice(0, _MOST_QUARANTINED).to_pylist()
        ),
        quarantined_total=len(quarantined),
        notes=_NOTES,
    )
    uri = f"{config.report_uri}/index.html"
    storage.write(uri, render_page(content).encode())
    classic_files = 0
    if config.report.classic is not None:
        classic_files = write_classic(config.report.classic, content.history, content.panels, scores, classes.palette)
    sys.stderr.write(f"{class_table(class_rows, headline)}\n\nreport: {uri}\n")
    return ReportResult(
        report=uri,
        frames=table.success.num_rows,
        quarantined=table.success.num_quarantined,
        miou=scores.miou,
        object_miou=scores.object_miou,
        pixel_accuracy=scores.pixel_accuracy,
        calibration_error=calibration.error,
        drift=None if drift is None else drift.largest,
        classic_files=classic_files,
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
            tp=one.tp,
            fp=one.fp,
            fn=one.fn,
            iou=one.iou,
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


def _facts(config: Config, table: Table, ok: pa.Table) -> tuple[tuple[str, str], ...]:
    """Return what there is to say of a run."""
    success = table.success
    settings = table.plan.settings
    model = table.plan.facts["model"]
    source = settings.get("predict.images") or f"split {settings.get('predict.split')}"
    copied, job = len(ok) - ok["copied_from"].null_count, read_job(table.uri)
    optional = (
        ("mIoU expected of a frame", _expected(ok, table.plan.facts["estimator"])),
        ("flicker", _flicker(success.totals["lasting"])),
        ("masks taken from another frame", str(copied) if copied else None),
        ("last run", None if job is None else describe_job(job)),
    )
    return (
        ("run", config.run.name),
        ("frames", f"{success.num_rows} ({source})"),
        ("segmented", str(success.num_ok)),
        ("quarantined", ", ".join(f"{code} {count}" for code, count in success.errors.items()) or "0"),
        ("model", ", ".join(f"{key} {value}" for key, value in model.items() if value)),
        ("weights", f"sha256 {settings['predict.checkpoint']}"),
        ("precision", str(settings["scaling.precision"])),
        *((name, value) for name, value in optional if value is not None),
        ("predictions", table.uri),
        ("plan", table.plan.run_id),
    )


def _expected(ok: pa.Table, estimator: Mapping[str, Any] | None) -> str | None:
    if estimator is None or not len(ok):
        return None
    mean = pc.mean(ok["expected_miou"]).as_py()
    return f"{mean:.3f} in the mean; off by {estimator['error']:.3f} on {estimator['frames']} validation frames"


def _flicker(lasting: Sequence[int]) -> str | None:
    changed, pixels = sum(lasting[: len(lasting) // 2]), sum(lasting)
    return f"{changed / pixels:.4f} of the pixels have another class than in the frame before" if pixels else None
