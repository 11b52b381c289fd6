import json
import logging
from pathlib import Path

import pytest

from tests.unit.inline_table import begin, produce
from unet_ray import storage
from unet_ray.errors import TransientError
from unet_ray.faults import outlast
from unet_ray.job_record import JobRecord, read_job
from unet_ray.spending import Clock, Spending, Spent, spending_from_json, spending_to_json

SPENDING = {"load": Spent(seconds=2.0, cpu_seconds=1.0, bytes_read=100), "write": Spent(seconds=0.5, outlasted=1)}


def test_a_record_adds_up_what_parts_say(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plan = begin(f"{tmp_path}/t")
    parts = list(produce(plan, plan.units(range(plan.num_shards))))
    record = JobRecord("predict", "street", {"load": 3, "write": 1})
    assert list(record.watch((part, SPENDING) for part in parts)) == parts
    with caplog.at_level(logging.INFO, "unet_ray.job_record"):
        record.write(plan.uri)
    found = read_job(plan.uri)
    assert found is not None
    assert (found["job"], found["rows"], found["quarantined"]) == ("predict", 9, 2)
    assert found["megapixels"] == sum(2 * (3 + row_id % 2) for row_id in range(9) if row_id not in (3, 6)) / 1e6
    assert found["bytes_written"] == sum(part.size_bytes for part in parts)
    load = found["stages"]["load"]
    assert (load["seconds"], load["bytes_read"], load["processes"]) == (10.0, 500, 3)
    assert load["busy"] == pytest.approx(10 / (found["seconds"] * 3))
    assert found["stages"]["write"]["outlasted"] == 5
    assert caplog.messages[0].startswith("predict: 9 rows, 0.0 megapixels in 0.0 s;")


def test_a_run_that_found_nothing_to_do_leaves_the_record_as_it_is(tmp_path: Path) -> None:
    storage.write(f"{tmp_path}/job.json", json.dumps({"rows": 7}).encode())
    record = JobRecord("predict", "street", {"load": 1})
    assert not list(record.watch([]))
    record.write(str(tmp_path))
    assert read_job(str(tmp_path)) == {"rows": 7}
    assert read_job(f"{tmp_path}/elsewhere") is None


def test_a_clock_counts_what_this_process_fetched_and_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unet_ray.faults.time.sleep", lambda seconds: None)
    answers = iter([TransientError("busy"), TransientError("busy"), None])

    def ask() -> None:
        if (error := next(answers)) is not None:
            raise error

    storage.write(f"{tmp_path}/a", b"12345")
    clock = Clock()
    for _ in range(2):
        with clock:
            storage.read_bytes(f"{tmp_path}/a")
    with clock:
        outlast(ask)
    storage.read_bytes(f"{tmp_path}/a")
    assert (clock.spent.bytes_read, clock.spent.outlasted) == (10, 2)
    assert clock.spent.seconds > 0


def test_spending_survives_json() -> None:
    spending: Spending = SPENDING
    assert spending_from_json(spending_to_json(spending)) == spending
