"""What there is to say of a run in names and values: what was segmented by what, and what the last run of it took."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jinja2.filters import do_filesizeformat

from unet_ray.config import Config
from unet_ray.report.content import Facts, Job, JobStage
from unet_ray.report.frames import Frames
from unet_ray.table.read import Table


def list_facts(config: Config, table: Table, frames: Frames) -> Facts:
    """Return what a run was."""
    success, settings = table.success, table.plan.settings
    source = settings.get("predict.images") or f"split {settings.get('predict.split')}"
    copied = int(frames.is_copied.sum())
    optional = (
        ("mIoU expected of a frame", _expected(frames, table.plan.facts["estimator"])),
        ("flicker", _flicker(frames)),
        ("masks taken from another frame", f"{copied:,}" if copied else None),
    )
    return (
        ("run", config.run.name),
        ("frames", f"{success.num_rows} ({source})"),
        ("segmented", str(success.num_ok)),
        ("quarantined", ", ".join(f"{code} {count}" for code, count in success.errors.items()) or "0"),
        ("model", ", ".join(f"{key} {value}" for key, value in table.plan.facts["model"].items() if value)),
        ("weights", f"sha256 {settings['predict.checkpoint']}"),
        ("precision", str(settings["scaling.precision"])),
        *((name, value) for name, value in optional if value is not None),
        ("predictions", table.uri),
        ("plan", table.plan.run_id),
    )


def list_job(record: Mapping[str, Any]) -> Job:
    """Return what the last run that wrote to a table measured (`job_record.read_job`)."""
    facts = (
        ("begun", record["begun_at"]),
        ("frames", f"{record['rows']:,}, of which {record['quarantined']:,} quarantined"),
        ("megapixels", f"{record['megapixels']:,.1f}"),
        ("time", f"{record['seconds']:,.1f} s, the first frames after {record['first_part_s']:,.1f} s"),
        ("rate", f"{record['rows_per_s']:,.1f} frames/s, {record['megapixels'] / record['seconds']:,.1f} megapixels/s"),
        ("written", do_filesizeformat(record["bytes_written"])),
    )
    return Job(facts=facts, stages=tuple(JobStage(name=name, **stage) for name, stage in record["stages"].items()))


def _expected(frames: Frames, estimator: Mapping[str, Any] | None) -> str | None:
    known = frames.expected_miou[~np.isnan(frames.expected_miou)]
    if estimator is None or not len(known):
        return None
    return f"{known.mean():.3f} in the mean; off by {estimator['error']:.3f} on {estimator['frames']} validation frames"


def _flicker(frames: Frames) -> str | None:
    changed, lasting = frames.lasting_N2.sum(0).tolist()
    if not changed + lasting:
        return None
    return f"{changed / (changed + lasting):.4f} of the pixels have another class than in the frame before"
