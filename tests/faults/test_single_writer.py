"""A store that ignores create-only writes is refused before anything starts, or used on a promise."""

import time
from pathlib import Path

import pytest

from tests.faults.store import Answer, FaultStore, Rule
from tests.faults.trials import TABLES, Job, WatchedStore, compare, experiment, run_undisturbed
from tests.tally import Tally
from unet_ray.cli import run_stage
from unet_ray.config_file import dump_config


@pytest.fixture
def config_path(tmp_path: Path) -> str:
    path = tmp_path / "experiment.yaml"
    path.write_text(dump_config(experiment()))
    return str(path)


@pytest.mark.parametrize("stage", ["prepare", "train", "predict"])
def test_a_store_that_lets_the_second_writer_win_is_refused_at_once(
    stage: str, store: FaultStore, config_path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store.honours_if_none_match = False
    started = time.monotonic()
    assert run_stage(stage, [config_path]) == 2
    print(f"refused after {time.monotonic() - started:.1f} s")  # noqa: T201
    said = capsys.readouterr().err
    assert said.startswith("error: the store of s3://bucket/runs/run/")
    assert "ignores create-only writes (If-None-Match)" in said
    assert "--run.single_writer true" in said
    assert {key.rpartition("/")[2] for key in store.objects} == {"_PROBE"}


def test_an_output_that_cannot_be_written_is_refused_at_once(
    store: FaultStore, config_path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store.rules = [Rule(act=Answer("AccessDenied"), operation="put")]
    for flags in ([], ["--run.single_writer", "true"]):
        assert run_stage("predict", [config_path, *flags]) == 2
        said = capsys.readouterr().err
        assert "s3://bucket/runs/run/predictions/_PROBE: the store refused access (403 AccessDenied)" in said
    assert store.objects == {}


def test_a_single_writer_makes_the_same_table_on_such_a_store(tally: Tally) -> None:
    config = experiment(run__single_writer="true")
    for stage, clean in run_undisturbed().items():
        with WatchedStore(TABLES[stage], clean.before) as store:
            store.honours_if_none_match = False
            store.rules = [Rule(act=Answer("AccessDenied"), operation="put", key="_seals/000001", nth=1)]
            job = Job(stage, store, config)
            assert job.run() == 2
            assert job.run() == 0
            found = compare(store, clean)
        tally.add(trials=1, **found)
        assert not any(found.values()), found
