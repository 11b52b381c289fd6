"""Two predictions of the same frames; the cluster is a loop here."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.unit.inline_table import BAD_ROWS, NUM_CLASSES, NUM_ROWS, begin, planned_rows, predict
from unet_ray import cli, compare
from unet_ray.commands.compare import COMPARE
from unet_ray.compare import comparison_text
from unet_ray.errors import TableError
from unet_ray.images.encode import MaskEncoding, encode_mask
from unet_ray.metrics import count_confusion, score
from unet_ray.schema import OK, PREDICTION, QUARANTINED
from unet_ray.table.commit import QuarantineLimits, fill
from unet_ray.table.parts import Part, write_part
from unet_ray.table.plan import Plan, Unit

pytestmark = pytest.mark.usefixtures("inline_tasks")

Change = Callable[[dict[str, Any]], dict[str, Any]]

FACTS = {"classes": ("road", "sky", "car"), "background": None}


def publish(uri: str, change: Change = lambda row: row, *, encoding: MaskEncoding = "raw", **changes: Any) -> str:
    """Publish the table of `inline_table`, its rows changed."""
    facts = {**FACTS, "mask_encoding": encoding, **changes.pop("facts", {})}

    def produce(plan: Plan, units: Sequence[Unit]) -> Iterator[Part]:
        for unit in units:
            rows = [change(predict(row)) for row in plan.read(unit)]
            for row in rows:
                if row["status"] == OK:
                    row["pred_mask"] = encode_mask(mask_of(row), encoding)
            yield write_part(plan, [unit], pa.Table.from_pylist(rows, schema=PREDICTION))

    plan = begin(uri, facts=facts, **changes)
    fill(plan, lambda units: produce(plan, units), limits=QuarantineLimits(fraction=1.0))
    return uri


def mask_of(row: dict[str, Any]) -> np.ndarray:
    return np.frombuffer(row["pred_mask"], np.uint8).reshape(row["height"], row["width"])


def turn(row: dict[str, Any]) -> dict[str, Any]:
    """Change the first pixel of row 0 and all of row 8; lose row 4 and find row 6."""
    if row["row_id"] == 4:
        return row | {"status": QUARANTINED, "pred_mask": None}
    if row["row_id"] == 6:
        return row | {"status": OK, "pred_mask": bytes(6), "height": 2, "width": 3}
    mask = mask_of(row).copy() if row["status"] == OK else None
    if row["row_id"] == 0:
        mask[0, 0] = (mask[0, 0] + 1) % NUM_CLASSES
    if row["row_id"] == 8:
        mask = (mask + 1) % NUM_CLASSES
    return row if mask is None else row | {"pred_mask": mask.astype(np.uint8).tobytes()}


def test_a_table_agrees_with_itself(tmp_path: Path) -> None:
    uri = publish(str(tmp_path / "one"))
    found = compare.run(uri, uri)
    good = NUM_ROWS - len(BAD_ROWS)
    assert (found.compared, found.identical, found.in_one_only) == (good, good, 0)
    assert (found.miou, found.pixel_agreement, found.most_changed) == (1.0, 1.0, ())


@pytest.mark.parametrize(("encoding", "shard_rows"), [("raw", 4), ("png", 3), ("png", 100)])
def test_what_differs_is_counted_whatever_the_encoding_and_the_shards(
    tmp_path: Path, encoding: MaskEncoding, shard_rows: int
) -> None:
    one = publish(str(tmp_path / "one"))
    two = publish(str(tmp_path / "two"), turn, encoding=encoding, shard_rows=shard_rows, unit_rows=1)
    confusion_KK = np.zeros((NUM_CLASSES, NUM_CLASSES), np.int64)
    for row_id, row in enumerate(planned_rows()):
        before, after = predict({"row_id": row_id, **row}), turn(predict({"row_id": row_id, **row}))
        if before["status"] == after["status"] == OK:
            confusion_KK += count_confusion(mask_of(before), mask_of(after), NUM_CLASSES)
    for first, second in ((one, two), (two, one)):
        found = compare.run(first, second)
        assert (found.compared, found.identical, found.in_one_only) == (6, 4, 2)
        expected = score(confusion_KK)
        assert found.miou == pytest.approx(expected.miou)
        assert found.pixel_agreement == pytest.approx(expected.pixel_accuracy)
        assert list(found.class_iou) == ["road", "sky", "car"]
        assert [(one.image_id, one.changed_pixels, one.pixels) for one in found.most_changed] == [
            ("seq_2/008.png", 6, 6),
            ("seq_0/000.png", 1, 6),
        ]


def test_only_the_frames_that_changed_most_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "_MOST_SHOWN", 1)
    one, two = publish(str(tmp_path / "one")), publish(str(tmp_path / "two"), turn)
    assert [change.image_id for change in compare.run(one, two).most_changed] == ["seq_2/008.png"]


def test_the_text_has_the_classes_and_the_frames(tmp_path: Path) -> None:
    one, two = publish(str(tmp_path / "one")), publish(str(tmp_path / "two"), turn)
    text = comparison_text(compare.run(one, two))
    assert "pixels alike" in text
    assert "seq_2/008.png  100.0%  0.0000" in text
    assert "6 frames, 4 of them alike, 2 with a mask in one only" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"facts": {"classes": ("road", "sky", "bus")}}, "knows the classes .*'bus'.* compare predictions of the same"),
        ({"rows": planned_rows(5)}, "holds 5 frames, .* 9; compare predictions of the same frames"),
        ({"rows": [*planned_rows(8), planned_rows(10)[9]]}, "row 8 is seq_3/009.png, of the other table seq_2/008.png"),
        ({"kind": "dataset"}, "a table of dataset; compare takes two tables of predictions"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    one, two = publish(str(tmp_path / "one")), publish(str(tmp_path / "two"), **changes)
    with pytest.raises(TableError, match=message):
        compare.run(one, two)


@pytest.mark.parametrize(("miou", "argv", "code"), [
    (0.9, [], 0), (0.9, ["--at-least", "0.9"], 0), (0.89, ["--at-least", "0.9"], 3), (None, ["--at-least", "0.1"], 3),
])  # fmt: skip
def test_a_gate_is_an_exit_code(
    miou: float | None, argv: list[str], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(cli.COMMANDS, "compare", replace(COMPARE, work=lambda options: {"miou": miou}))
    assert cli.main(["compare", "one", "two", *argv]) == code
    assert '"miou"' in capsys.readouterr().out
