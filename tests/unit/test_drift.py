"""Frames held against a reference, without truth and without Ray."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.unit.inline_table import begin, planned_rows
from unet_ray import cli
from unet_ray.commands.drift import DRIFT
from unet_ray.drift import drift_from_validation, drift_text, run
from unet_ray.errors import TableError
from unet_ray.reference import Reference, count_levels, find_levels, name_numbers
from unet_ray.schema import OK, PREDICTION, QUARANTINED
from unet_ray.table.commit import QuarantineLimits, fill
from unet_ray.table.parts import Part, write_part
from unet_ray.table.plan import Plan, Unit
from unet_ray.table.read import open_table

FRAMES = 300
PIXELS = 100
SETTINGS = {"predict.batch_size": 64, "predict.checkpoint": "0123"}
Change = Callable[[dict[str, Any]], Mapping[str, Any]]


def frame(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a frame of 10 x 10 px whose numbers follow from its row_id; every hundredth is quarantined."""
    kept = {name: row[name] for name in ("row_id", "image_id", "image_uri", "group", "frame", "split")}
    if row["row_id"] % 100 == 99:
        return kept | {"status": QUARANTINED, "error_code": "truncated", "error_message": "ends early"}
    rng = np.random.default_rng(row["row_id"])
    road, sky = rng.integers(30, 60), rng.integers(10, 30)
    return kept | {
        "status": OK,
        "pred_mask": bytes(PIXELS),
        "height": 10,
        "width": 10,
        "channel_sum": [int(rng.integers(80, 120)) * PIXELS] * 3,
        "class_pixels": [int(road), int(sky), int(PIXELS - road - sky)],
        "confidence_sum": [int(rng.integers(150, 200)) * PIXELS, 0, 0],
        "entropy_sum": int(rng.integers(20, 60)) * PIXELS,
        "boundary_length": 1,
    }


def publish(uri: str, change: Change = lambda row: {}, *, first: int = 0, **changes: Any) -> str:
    """Publish frames by number, their rows changed."""

    def produce(plan: Plan, units: Sequence[Unit]) -> Iterator[Part]:
        for unit in units:
            rows = [frame(row | {"row_id": first + row["row_id"]}) for row in plan.read(unit)]
            for row in rows:
                row["row_id"] -= first
                row |= change(row) if row["status"] == OK else {}
            yield write_part(plan, [unit], pa.Table.from_pylist(rows, schema=PREDICTION))

    plan = begin(uri, changes.pop("rows", planned_rows(FRAMES)), **{"shard_rows": 64, "unit_rows": 64, **changes})
    fill(plan, lambda units: produce(plan, units), limits=QuarantineLimits(fraction=1.0))
    return uri


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> str:
    return publish(str(tmp_path_factory.mktemp("drift") / "reference"))


def test_a_table_has_not_shifted_from_itself(reference: str) -> None:
    found = run(reference, reference)
    assert (found.frames, found.reference_frames) == (FRAMES - 3, FRAMES - 3)
    assert {one.index for one in found.shifts} == {0.0}
    assert (found.largest, found.shifted_groups, found.groups) == (0.0, 0, ())
    assert [one.number for one in found.shifts] == [
        "size", "brightness", "confidence", "uncertainty", "share of road", "share of sky", "share of car",
    ]  # fmt: skip


def test_other_frames_of_the_same_kind_are_no_shift(reference: str, tmp_path: Path) -> None:
    found = run(publish(str(tmp_path / "new"), first=FRAMES), reference)
    assert found.largest == 0
    assert not any(one.is_large for one in found.shifts)


def test_brighter_frames_are_told_by_their_brightness_alone(reference: str, tmp_path: Path) -> None:
    brighter = publish(
        str(tmp_path / "new"), lambda row: {"channel_sum": [value + 30 * PIXELS for value in row["channel_sum"]]}
    )
    found = run(brighter, reference)
    worst, *others = found.shifts
    assert worst.number == "brightness"
    assert worst.is_large
    assert found.largest == worst.index > 1
    assert worst.mean == pytest.approx(worst.reference_mean + 30 / 255, abs=0.002)  # type: ignore[operator]
    assert not any(one.index for one in others)
    assert "brightness" in drift_text(found).splitlines()[1]
    assert drift_text(found).splitlines()[1].endswith("shifted")


def test_the_means_are_those_of_the_frames(reference: str) -> None:
    rows = [frame({"row_id": number} | row) for number, row in enumerate(planned_rows(FRAMES))]
    expected = np.mean([row["entropy_sum"] / (255 * PIXELS) for row in rows if row["status"] == OK])
    means = {one.number: one.mean for one in run(reference, reference).shifts}
    assert means["uncertainty"] == pytest.approx(expected, abs=0.001)
    assert means["size"] is None


def test_groups_that_shifted_are_named_with_what_shifted_most(reference: str, tmp_path: Path) -> None:
    rows = [row | {"group": f"seq_{number // 50}"} for number, row in enumerate(planned_rows(FRAMES))]

    def change(row: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"class_pixels": [0, 0, PIXELS]} if row["group"] == "seq_4" else {}

    found = run(publish(str(tmp_path / "new"), change, rows=rows), reference)
    assert found.shifted_groups == 1
    [one] = found.groups
    assert (one.group, one.frames) == ("seq_4", 50)
    assert one.shift.number == "share of sky"
    assert one.shift.mean == pytest.approx(0, abs=0.001)
    assert "seq_4" in drift_text(found)


def test_larger_frames_are_a_shift_of_size(reference: str, tmp_path: Path) -> None:
    found = run(publish(str(tmp_path / "new"), lambda row: {"height": 20, "pred_mask": bytes(2 * PIXELS)}), reference)
    assert {one.number for one in found.shifts if one.is_large} >= {"size"}


def known_facts(first: int = 0) -> dict[str, Any]:
    """Return the facts of a table whose checkpoint was validated on the frames of `publish`."""
    frames = [frame(row | {"row_id": first + number}) for number, row in enumerate(planned_rows(FRAMES))]
    rows = [row for row in frames if row["status"] == OK]
    sums = {name: np.array([row[name] for row in rows]) for name in ("channel_sum", "confidence_sum", "class_pixels")}
    levels = find_levels(
        pixels_N=np.full(len(rows), PIXELS),
        channel_sum_N3=sums["channel_sum"],
        confidence_sum_NK=sums["confidence_sum"],
        entropy_sum_N=np.array([row["entropy_sum"] for row in rows]),
        class_pixels_NK=sums["class_pixels"],
    )
    classes = ["road", "sky", "car"]
    reference = Reference.of(name_numbers(classes), count_levels(levels))
    return {"classes": classes, "background": None, "reference": reference.to_json()}


def test_without_another_table_frames_are_held_against_those_of_the_validation(reference: str, tmp_path: Path) -> None:
    new = publish(
        str(tmp_path / "new"), lambda row: {"class_pixels": [0, 10, PIXELS - 10]}, first=FRAMES, facts=known_facts()
    )
    found, expected = run(new), run(new, reference)
    assert found.shifts == expected.shifts
    assert found.groups == expected.groups
    assert (found.frames, found.reference_frames, found.reference) == (FRAMES - 3, FRAMES - 3, None)
    assert found.largest > 1


def test_numbers_that_the_validation_does_not_tell_are_left_out(tmp_path: Path) -> None:
    facts = known_facts()
    known = {name: values[1:] for name, values in facts["reference"].items()}
    found = run(publish(str(tmp_path / "new"), facts=facts | {"reference": known}))
    assert "size" not in {one.number for one in found.shifts}
    assert {one.index for one in found.shifts} == {0.0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "its checkpoint does not know the frames it was validated on; name another table"),
        (
            {"facts": known_facts(), "settings": SETTINGS | {"predict.flips": "horizontal"}},
            "predict.flips is horizontal, the validation had none; name a table that was predicted alike",
        ),
        (
            {"facts": known_facts(), "settings": SETTINGS | {"predict.smooth_frames": 2}},
            "predict.smooth_frames is 2, the validation had 0; name a table",
        ),
    ],
)
def test_what_cannot_be_held_against_the_validation_is_refused_and_no_drift_for_a_report(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    uri = publish(str(tmp_path / "new"), **changes)
    with pytest.raises(TableError, match=message):
        run(uri)
    assert drift_from_validation(open_table(uri)) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings": {"predict.checkpoint": "4567"}}, "predict.checkpoint is 4567, in .* 0123; another model sees"),
        (
            {"settings": SETTINGS | {"predict.scales": [0.5]}},
            r"predict.scales is \[0.5\], in .* None; .* predict both alike",
        ),
        ({"rows": [planned_rows(FRAMES)[0]], "first": 99}, "none of its 1 frames was segmented; there is nothing to"),
        ({"kind": "dataset"}, "a table of dataset; drift takes tables of predictions"),
    ],
)
def test_what_tells_nothing_is_refused(reference: str, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TableError, match=message):
        run(publish(str(tmp_path / "new"), **changes), reference)


@pytest.mark.parametrize(("largest", "argv", "code"), [
    (9.0, [], 0), (0.25, ["--at-most", "0.25"], 0), (0.26, ["--at-most", "0.25"], 3),
])  # fmt: skip
def test_a_gate_is_an_exit_code(
    largest: float, argv: list[str], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(cli.COMMANDS, "drift", replace(DRIFT, work=lambda options: {"largest": largest}))
    assert cli.main(["drift", "one", "two", *argv]) == code
    assert cli.main(["drift", "one", *argv]) == code
    assert '"largest"' in capsys.readouterr().out
