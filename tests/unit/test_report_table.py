"""The report of a published table: what is read of it, how it was counted, its sequences, and the page as a whole."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.unit.inline_table import BAD_ROWS, NUM_ROWS, ROWS_WITHOUT_TRUTH, begin, expected_rows, finish
from unet_ray import storage
from unet_ray.config import Config, ReportSection, RunSection
from unet_ray.config_input import LabelsSection
from unet_ray.config_training import ModelSection
from unet_ray.intervals import MOST_UNITS
from unet_ray.labels.scheme import make_class_map
from unet_ray.metrics import score
from unet_ray.report.facts import list_job
from unet_ray.report.frames import Frames, read_frames
from unet_ray.report.metric_card import make_metric_card
from unet_ray.report.run import run
from unet_ray.report.sequences import list_sequences
from unet_ray.schema import IDENTITY, PREDICTION
from unet_ray.table.commit import QuarantineLimits, fill
from unet_ray.table.parts import Part, write_part
from unet_ray.table.plan import Unit
from unet_ray.table.read import Table, open_table

CLASSES = make_class_map(
    LabelsSection(classes=("road", "sky", "car"), ignore_ids=(11, 255), background="sky", hood=("car", 9))
)
SETTINGS: dict[str, Any] = {
    "predict.split": "val", "data.dataset": "0123456789abcdef", "predict.checkpoint": "0123", "predict.flips": "none",
    "predict.scales": [1.0], "predict.forward_pixels": 4096, "predict.copy_repeats": False, "predict.segment_every": 1,
    "predict.smooth_frames": 0, "scaling.precision": "fp32",
}  # fmt: skip
FACTS = {
    **asdict(CLASSES), "model": asdict(ModelSection(depth=3)), "mask_encoding": "raw", "estimator": None,
    "reference": None,
}  # fmt: skip
OK_ROWS = [row for row in expected_rows().to_pylist() if row["status"] == "ok"]
TRUE_ROWS = [row for row in OK_ROWS if row["confusion"] is not None]
JOB = {
    "job": "predict", "begun_at": "2026-01-02T03:04:05+00:00", "seconds": 4.0, "first_part_s": 1.5, "rows": 1200,
    "quarantined": 2, "megapixels": 20.0, "bytes_written": 5_200_000, "rows_per_s": 300.0,
    "stages": {
        "load": {
            "seconds": 3.0, "cpu_seconds": 2.0, "bytes_read": 10, "outlasted": 4, "processes": 1, "busy": 0.75,
        }
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A run of nine frames of three sequences, of which two are quarantined and two have no truth."""
    root = tmp_path_factory.mktemp("runs")
    made = Config(run=RunSection(storage=str(root)), report=ReportSection(panels=0))
    finish(begin(made.predictions_uri, settings=SETTINGS, facts=FACTS))
    return made


@pytest.fixture(scope="module")
def table(config: Config) -> Table:
    return open_table(config.predictions_uri)


@pytest.fixture(scope="module")
def frames(table: Table) -> Frames:
    return read_frames(table, 3, 1, seed=0)


# The numbers of frames


def test_every_row_is_in_its_place_with_its_numbers(frames: Frames) -> None:
    assert np.flatnonzero(~frames.is_ok).tolist() == sorted(BAD_ROWS)
    assert np.flatnonzero(frames.is_ok & ~frames.has_truth).tolist() == sorted(ROWS_WITHOUT_TRUTH)
    assert [frames.groups[code] for code in frames.group] == [f"seq_{number // 3}" for number in range(NUM_ROWS)]
    assert frames.frame.tolist() == [number % 3 for number in range(NUM_ROWS)]
    for row in OK_ROWS:
        place = row["row_id"]
        assert frames.pixels[place] == row["height"] * row["width"]
        assert frames.confidence_sum[place] == sum(row["confidence_sum"])
        assert frames.entropy_sum[place] == row["entropy_sum"]
        lasting = row["lasting"] or [0] * 6
        assert frames.lasting_N2[place].tolist() == [sum(lasting[:3]), sum(lasting[3:])]
        miou = score(row["confusion"], 1).miou if row["confusion"] else None
        assert np.isnan(frames.miou[place]) if miou is None else frames.miou[place] == pytest.approx(miou)
    assert frames.sizes == ((2, 3), (2, 4))
    assert [one.error_code for one in frames.quarantined] == list(BAD_ROWS.values())


def test_scores_of_groups_and_of_what_is_resampled_add_up(frames: Frames) -> None:
    confusion = np.sum([row["confusion"] for row in TRUE_ROWS], axis=0).reshape(3, 3)
    for margins in (frames.margins_G3K, frames.margins_U3K):
        assert margins.sum(0).tolist() == [
            confusion.diagonal().tolist(), confusion.sum(1).tolist(), confusion.sum(0).tolist(),
        ]  # fmt: skip
    assert len(frames.margins_U3K) == len(TRUE_ROWS)


def test_more_frames_than_are_drawn_one_by_one_are_resampled_in_groups(tmp_path: Path) -> None:
    rows = [{"image_id": f"{number}", "group": "", "split": ""} for number in range(MOST_UNITS + 900)]
    uri = f"{tmp_path}/many"
    finish(begin(uri, rows, settings=SETTINGS, facts=FACTS, shard_rows=5_000, unit_rows=5_000))
    many = read_frames(open_table(uri), 3, None, seed=0)
    assert 0.99 * MOST_UNITS < len(many.margins_U3K) <= MOST_UNITS  # two frames in 5,000 have no truth
    assert many.margins_U3K.sum(0).tolist() == many.margins_G3K.sum(0).tolist()


# How it was counted


def card(table: Table, frames: Frames, **settings: Any) -> dict[str, str]:
    changed = replace(table, plan=replace(table.plan, settings=SETTINGS | settings))
    scores = score(table.success.totals["confusion"] or [], 1)
    return dict(make_metric_card(changed, CLASSES, scores, frames, None))


def test_the_card_names_the_rules_of_this_table(table: Table, frames: Frames) -> None:
    found = card(table, frames)
    labelled = sum(sum(row["confusion"]) for row in TRUE_ROWS)
    ignored = sum(row["ignored_pixels"] for row in TRUE_ROWS)
    assert found["counted"] == (
        f"{labelled:,} labelled pixels of {len(TRUE_ROWS)} frames; left out: 2 without truth, 2 quarantined"
    )
    assert "the mean over 3 of 3 classes" in found["average"]
    assert "object mIoU leaves out sky" in found["average"]
    assert found["absent classes"] == "none"
    assert found["without a label"].startswith(f"{ignored / (ignored + labelled):.1%} of the pixels")
    assert found["without a label"].endswith("in masks: 11, 255; and car from row 9 down")
    assert found["padding"] == "frames are padded to multiples of 8, and the output cropped: none of it is counted"
    assert found["views"] == "one, the frame as it is"
    assert found["tiles"] == "none, as no frame has more than 4,096 px"
    assert "sequences" not in found


def test_the_card_follows_the_settings(table: Table, frames: Frames) -> None:
    found = card(
        table, frames,
        **{"predict.flips": "both", "predict.scales": [0.75, 1.0]},
        **{"predict.forward_pixels": 7, "predict.smooth_frames": 2},
    )  # fmt: skip
    assert found["views"] == "the mean of several (predict.flips both, predict.scales 0.75, 1)"
    assert found["tiles"].startswith("frames of more than 7 px are cut")
    assert found["sequences"] == "masks are not of each frame alone: predict.smooth_frames 2"


def test_absent_classes_are_named_and_those_that_are_never_true_count_as_nothing(table: Table, frames: Frames) -> None:
    scores = score([5, 0, 1, 0, 0, 0, 0, 0, 0])
    plain = replace(CLASSES, background=None)
    found = dict(make_metric_card(table, plain, scores, frames, None))
    assert found["absent classes"] == (
        "left out of the mean: sky; predicted but never true, and counted as 0: car"
    )  # fmt: skip
    assert "the mean over 2 of 3 classes" in found["average"]
    assert "there is no background class" in found["average"]


@pytest.mark.parametrize(
    ("settings", "resize", "wanted"),
    [
        ({"predict.images": "s3://frames"}, None, "as in the files, 2 sizes, 2 x 3 px to 2 x 4 px"),
        ({}, None, "as in the files, 2 sizes"),
        ({}, [256, 512], "resized by prepare, frames and masks alike, to 2 sizes"),
        ({"data.dataset": "another"}, None, "as in the prepared dataset, 2 sizes, 2 x 3 px to 2 x 4 px; whether"),
    ],
)
def test_the_card_says_at_what_resolution_pixels_were_counted(
    table: Table, frames: Frames, tmp_path: Path, settings: dict[str, Any], resize: list[int] | None, wanted: str
) -> None:
    dataset = begin(f"{tmp_path}/dataset", settings={"data.resize": resize})
    known = {"data.dataset": dataset.run_id} | settings
    changed = replace(table, plan=replace(table.plan, settings=SETTINGS | known))
    scores = score(table.success.totals["confusion"] or [], 1)
    assert dict(make_metric_card(changed, CLASSES, scores, frames, dataset))["resolution"].startswith(wanted)


def test_there_is_no_card_without_a_labelled_pixel(table: Table, frames: Frames) -> None:
    assert make_metric_card(table, CLASSES, score([0] * 9), frames, None) == ()


# Sequences


def test_sequences_have_the_scores_of_their_frames_the_worst_first(frames: Frames) -> None:
    found = list_sequences(frames, 1)
    assert (found.total, found.measure) == (3, "mIoU")
    mious = [row.miou for row in found.rows]
    assert mious == sorted(mious, key=lambda miou: miou or 2)
    for row in found.rows:
        rows = [one for one in OK_ROWS if one["group"] == row.group]
        confusion = np.sum([one["confusion"] for one in rows if one["confusion"]], axis=0)
        assert row.miou == pytest.approx(score(confusion, 1).miou)
        assert (row.frames, row.quarantined) == (3, 3 - len(rows))
        pixels = sum(one["height"] * one["width"] for one in rows)
        assert row.confidence == pytest.approx(sum(sum(one["confidence_sum"]) for one in rows) / 255 / pixels)
        lasting = np.sum([one["lasting"] for one in rows if one["lasting"]], axis=0)
        assert row.flicker == pytest.approx(lasting[:3].sum() / lasting.sum())
        assert row.expected_miou is None
        assert len(row.strip.values) == 3


def test_a_strip_has_the_frames_in_their_order_and_says_which_is_the_lowest(frames: Frames) -> None:
    shuffled = replace(frames, frame=np.array([2, 0, 1] * 3))
    strip = next(row.strip for row in list_sequences(shuffled, 1).rows if row.group == "seq_0")
    expected = [frames.miou[place] for place in (1, 2, 0)]  # row 1 has no truth
    np.testing.assert_array_equal(strip.values, expected)
    assert strip.lowest == f"frame {[1, 2][int(np.argmin(expected[1:]))]}"
    unknown = replace(frames, groups=("", "seq_1", "seq_2"))
    strip = next(row.strip for row in list_sequences(unknown, 1).rows if row.group == "")
    np.testing.assert_array_equal(strip.values, frames.miou[:3])


def test_long_sequences_show_the_lowest_of_each_stretch(frames: Frames) -> None:
    many = 1_000
    values = np.linspace(0.5, 1, many)
    values[[0, 1, 2, 500]] = np.nan, np.nan, np.nan, 0.125
    long = replace(
        frames,
        **{name: np.resize(getattr(frames, name), many) for name in ("is_ok", "pixels", "confidence_sum")},
        has_truth=~np.isnan(values), miou=values, expected_miou=values, group=np.zeros(many, np.int64),
        frame=np.full(many, -1), lasting_N2=np.zeros((many, 2), np.int64), groups=("",),
        margins_G3K=frames.margins_G3K[:1],
    )  # fmt: skip
    (row,) = list_sequences(long, None).rows
    assert len(row.strip.values) == 400
    assert np.isnan(row.strip.values[0])
    assert row.strip.values[1] == values[3]
    assert row.strip.values.tolist().index(0.125) == 200
    assert row.strip.lowest == "row 500"
    assert row.flicker is None
    assert row.expected_miou == pytest.approx(np.nanmean(values))


def test_without_truth_sequences_are_ranked_and_drawn_by_their_confidence(frames: Frames) -> None:
    blind = replace(
        frames, has_truth=np.zeros(NUM_ROWS, bool), miou=np.full(NUM_ROWS, np.nan),
        margins_G3K=np.zeros((3, 3, 3), np.int64), confidence_sum=frames.pixels * np.arange(9, 0, -1) * 20,
    )  # fmt: skip
    found = list_sequences(blind, None)
    assert found.measure == "confidence"
    assert [row.group for row in found.rows] == ["seq_2", "seq_1", "seq_0"]
    assert all(row.miou is None for row in found.rows)
    assert found.rows[-1].strip.values.tolist() == pytest.approx([180 / 255, 160 / 255, 140 / 255])


# The whole


def test_the_report_has_everything_that_the_table_says(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    storage.write(f"{config.predictions_uri}/job.json", json.dumps(JOB).encode())
    found = run(config)
    confusion = np.sum([row["confusion"] for row in TRUE_ROWS], axis=0)
    assert (found.miou, found.frames, found.quarantined) == (score(confusion, 1).miou, 9, 2)
    document = json.loads(json.dumps(asdict(found)))
    for over in ("over_frames", "over_groups"):
        low, high = (document[over]["miou"][key] for key in ("low", "high"))
        assert 0 < low < document["miou"] < high < 1
    text = capsys.readouterr().err
    assert f"{found.over_frames.miou.low:.3f}-" in text  # type: ignore[union-attr]
    assert "over 3 sequences" in text
    assert "without a label" in text
    html = Path(found.report).read_text()
    for words in ("How it was counted", "over 3 sequences", "seq_1", "300.0 frames/s", "cannot be used"):
        assert words in html
    assert run(config) == found


def test_the_report_counts_as_another_project_does_when_asked_to(
    config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run(replace(config, report=replace(config.report, legacy="project002")))
    page = storage.read_bytes(result.report).decode()
    shown = capsys.readouterr().err
    for rule in ("as counted here", "void counted as class 0", "padding to a square counted as class 0"):
        assert rule in page
        assert rule in shown


def test_the_record_of_a_job_is_told_in_numbers() -> None:
    found = list_job(JOB)
    facts = dict(found.facts)
    assert facts["frames"] == "1,200, of which 2 quarantined"
    assert facts["rate"] == "300.0 frames/s, 5.0 megapixels/s"
    assert facts["written"] == "5.2 MB"
    assert [(stage.name, stage.busy, stage.outlasted) for stage in found.stages] == [("load", 0.75, 4)]


def test_a_table_of_which_nothing_is_usable_has_a_report(tmp_path: Path) -> None:
    config = Config(run=RunSection(storage=str(tmp_path)))
    plan = begin(config.predictions_uri, settings=SETTINGS, facts=FACTS)
    bad = {"status": "quarantined", "error_code": "truncated", "error_message": "ends early"}

    def produce(units: Sequence[Unit]) -> Iterator[Part]:
        for unit in units:
            rows = [{name: row[name] for name in IDENTITY} | bad for row in plan.read(unit)]
            yield write_part(plan, [unit], pa.Table.from_pylist(rows, schema=PREDICTION))

    fill(plan, produce, limits=QuarantineLimits(fraction=1.0))
    found = run(config)
    assert (found.quarantined, found.miou, found.over_frames, found.over_groups) == (9, None, None, None)
    html = Path(found.report).read_text()
    assert html.count("No frame was segmented.") == 2
    assert "How it was counted" not in html
