import re
from pathlib import Path

import numpy as np
import pytest

from tests.unit.inline_table import BAD_ROWS, begin, expected_rows, finish
from unet_ray.errors import ConfigError, TableError
from unet_ray.metrics import score
from unet_ray.query.run import run
from unet_ray.schema import OK

DOCUMENT = (Path(__file__).parents[2] / "docs/queries.md").read_text()
*QUESTIONS, OF_DATASET = re.findall(r"```sql\n(.*?)```", DOCUMENT, re.S)
OK_ROWS = [row for row in expected_rows().to_pylist() if row["status"] == OK]


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    uri = str(tmp_path_factory.mktemp("query") / "table")
    finish(begin(uri))
    return uri


def summed(rows: list[dict[str, list[int]]]) -> np.ndarray:
    return np.sum([row["confusion"] for row in rows if row["confusion"] is not None], axis=0)


def test_frames_have_the_scores_of_their_own_counts(uri: str) -> None:
    found = run(uri, "SELECT row_id, miou, pixel_accuracy, confidence, uncertainty FROM frames ORDER BY row_id")
    assert found.columns == ("row_id", "miou", "pixel_accuracy", "confidence", "uncertainty")
    for (row_id, *values), row in zip(found.rows, OK_ROWS, strict=True):
        expected = score(row["confusion"]) if row["confusion"] is not None else None
        ratios = (expected.miou, expected.pixel_accuracy) if expected else (None, None)
        assert row_id == row["row_id"]
        for value, ratio in zip(values, (*ratios, 200 / 255, 10 / 255), strict=True):
            assert value == (None if ratio is None else pytest.approx(ratio))


def test_classes_and_groups_have_the_scores_of_all_their_counts(uri: str) -> None:
    expected = score(summed(OK_ROWS))
    found = run(uri, "SELECT name, tp, fp, fn, iou, share FROM classes").rows
    pixels = np.sum([row["class_pixels"] for row in OK_ROWS], axis=0)
    for (name, tp, fp, fn, iou, share), wanted, label, of_class in zip(
        found, expected.classes, ("road", "sky", "car"), pixels, strict=True
    ):
        assert (name, tp, fp, fn) == (label, wanted.tp, wanted.fp, wanted.fn)
        assert iou == pytest.approx(wanted.iou)
        assert share == pytest.approx(of_class / pixels.sum())
    groups = run(uri, 'SELECT "group", frames, miou, pixel_accuracy FROM by_group').rows
    assert [group for group, *_ in groups] == ["seq_0", "seq_1", "seq_2"]
    for group, frames, miou, accuracy in groups:
        rows = [row for row in OK_ROWS if row["group"] == group]
        wanted_scores = score(summed(rows))
        assert frames == len(rows)
        assert (miou, accuracy) == pytest.approx((wanted_scores.miou, wanted_scores.pixel_accuracy))


def test_minutes_have_the_scores_of_their_own_counts(uri: str) -> None:
    found = run(uri, 'SELECT "group", minute, frames, miou FROM by_minute(1 / 60)').rows  # a frame a minute
    wanted = [
        (row["group"], row["frame"], 1, score(row["confusion"]).miou if row["confusion"] else None) for row in OK_ROWS
    ]
    assert [row[:3] for row in found] == [row[:3] for row in wanted]
    for (*_, miou), (*_, expected) in zip(found, wanted, strict=True):
        assert miou == (None if expected is None else pytest.approx(expected))
    whole = run(uri, "SELECT minute, frames, miou, confidence, uncertainty FROM by_minute(30)").rows
    groups = run(uri, "SELECT 0, frames, miou, confidence, uncertainty FROM by_group").rows
    assert whole == groups


def test_quarantined_rows_have_their_reasons(uri: str) -> None:
    assert dict(run(uri, "SELECT row_id, error_code FROM quarantine").rows) == BAD_ROWS


@pytest.mark.parametrize("sql", QUESTIONS)
def test_every_question_of_the_document_has_an_answer(uri: str, sql: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(QUESTIONS) == 14
    found = run(uri, sql)
    assert found.columns
    assert len(capsys.readouterr().err.splitlines()) == 1 + len(found.rows)


def test_a_dataset_has_views_too(dataset_uri: str) -> None:
    splits = {split: frames for split, frames, _ in run(dataset_uri, OF_DATASET).rows}
    assert sum(splits.values()) == run(dataset_uri, "SELECT count(*) FROM frames").rows[0][0] > 0
    names = run(dataset_uri, "SELECT name, pixels, frames, share FROM classes").rows
    assert sum(share for *_, share in names) == pytest.approx(1)
    assert run(dataset_uri, "SELECT sum(frames) FROM by_group").rows[0][0] == sum(splits.values())


def test_values_that_json_does_not_know_become_text(uri: str) -> None:
    found = run(uri, "SELECT pred_mask, DATE '2026-01-02', class_pixels FROM rows WHERE row_id = 0")
    assert found.rows == (("6 bytes", "2026-01-02", OK_ROWS[0]["class_pixels"]),)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM nothing",
        "SELEC 1",
        "SELECT * FROM read_csv('/etc/passwd')",
        "COPY frames TO 'stolen.csv'",
        "SET enable_external_access = true",
        "INSTALL httpfs",
    ],
)
def test_sql_that_fails_or_reaches_beyond_the_table_is_refused_in_one_line(
    uri: str, sql: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"^query: .*; views are frames, classes, by_group, quarantine") as caught:
        run(uri, sql)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_only_published_tables_are_asked(tmp_path: Path) -> None:
    with pytest.raises(TableError):
        run(str(tmp_path / "none"), "SELECT 1")
