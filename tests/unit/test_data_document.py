"""docs/data.md says what the schemas say, and its query runs on a table as jobs write it."""

import re
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from tests.unit.inline_table import NUM_ROWS, begin, expected_rows, finish
from unet_ray.schema import DATASET, OK, PREDICTION

DOCUMENT = (Path(__file__).parents[2] / "docs/data.md").read_text()
EVERY = re.findall(r"^\| `(\w+)` \| (\S+) \|", DOCUMENT.split("## A dataset")[0], re.M)


def columns(heading: str) -> list[tuple[str, str]]:
    """Return name and type of each column in the table under a heading."""
    section = DOCUMENT.split(f"## {heading}")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.+?) \| (\S+) \|", section, re.M)
    return [(name, kind) for names, kind in rows for name in re.findall(r"`(\w+)`", names)]


@pytest.mark.parametrize(("heading", "schema"), [("A dataset", DATASET), ("Predictions", PREDICTION)])
def test_every_column_is_described_with_its_type(heading: str, schema: pa.Schema) -> None:
    kinds = [(field.name, re.sub(r"<\w+: (\w+)>", r"&lt;\1&gt;", str(field.type))) for field in schema]
    assert EVERY + columns(heading) == kinds


def test_the_query_of_the_document_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finish(begin(str(tmp_path / "runs/camvid/predictions")))
    monkeypatch.chdir(tmp_path)
    (sql,) = re.findall(r"```sql\n(.*?)```", DOCUMENT, re.S)
    found = duckdb.connect().execute(sql).fetchall()
    ok = [row for row in expected_rows().to_pylist() if row["status"] == OK]
    assert len(found) == len(ok) < NUM_ROWS
    assert {image_id for image_id, _ in found} == {row["image_id"] for row in ok}
    assert all(value == pytest.approx(10 / 255) for _, value in found)
