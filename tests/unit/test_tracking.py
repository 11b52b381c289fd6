"""Runs in MLflow, by its real client; the server is a folder."""

import logging
import sys
from pathlib import Path
from typing import Any

import pytest

from unet_ray.config import Config
from unet_ray.config_file import leaves, parse_config
from unet_ray.errors import ConfigError
from unet_ray.train.tracking import tracked

ROW: dict[str, Any] = {
    "epoch": 0, "step": 0, "train_loss": None, "miou": 0.25, "class_iou": [0.5, None], "skipped_steps": 0,
}  # fmt: skip


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/server")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    for name in ("MLFLOW_DISABLE_TELEMETRY", "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        monkeypatch.setenv(name, "1")
    from mlflow.tracking import MlflowClient

    return MlflowClient()


def make_config(tmp_path: Path, name: str = "ohara", **train: Any) -> Config:
    document = {
        "run": {"storage": f"{tmp_path}/o'hara", "name": name},
        "train": {"mlflow_experiment": "streets", **train},
        "labels": {"preset": "camvid_11"},
    }
    return parse_config(document, {}, "test")


def crash(config: Config) -> None:
    with tracked(config) as track:
        track(ROW)
        raise KeyError("crash")


def runs(client: Any) -> list[Any]:
    experiment = client.get_experiment_by_name("streets")
    return list(client.search_runs([experiment.experiment_id]))


def test_a_run_has_its_settings_its_scores_and_its_end(client: Any, tmp_path: Path) -> None:
    config = make_config(tmp_path)
    with tracked(config) as track:
        track(ROW)
        track(ROW | {"epoch": 1, "step": 10, "train_loss": 1.5, "miou": 0.5})
        assert [run.info.status for run in runs(client)] == ["RUNNING"]
    [run] = runs(client)
    assert (run.info.run_name, run.info.status) == ("ohara", "FINISHED")
    assert run.data.tags["unet_ray.run"] == config.train_uri.replace("'", "%27")
    assert set(run.data.params) == {key for key, *_ in leaves()}
    assert run.data.params["optim.lr"] == str(config.optim.lr)
    assert run.data.params["run.name"] == "ohara"
    assert run.data.params["predict.scales"] == "[1.0]"
    assert set(run.data.metrics) == {"step", "train_loss", "miou", "skipped_steps"}
    history = client.get_metric_history(run.info.run_id, "miou")
    assert [(one.step, one.value) for one in history] == [(0, 0.25), (1, 0.5)]
    assert [one.step for one in client.get_metric_history(run.info.run_id, "train_loss")] == [1]


def test_a_run_that_goes_on_has_the_same_mlflow_run_and_another_run_its_own(client: Any, tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        crash(make_config(tmp_path))
    assert [run.info.status for run in runs(client)] == ["FAILED"]
    with tracked(make_config(tmp_path)) as track:
        assert [run.info.status for run in runs(client)] == ["RUNNING"]
        track(ROW | {"epoch": 1, "miou": 0.75})
    [run] = runs(client)
    assert run.info.status == "FINISHED"
    assert [one.value for one in client.get_metric_history(run.info.run_id, "miou")] == [0.25, 0.75]
    with tracked(make_config(tmp_path, "other")):
        pass
    assert len(runs(client)) == 2


def test_nothing_is_sent_where_no_experiment_is_named(client: Any, tmp_path: Path) -> None:
    with tracked(make_config(tmp_path, mlflow_experiment=None)) as track:
        track(ROW)
    assert client.get_experiment_by_name("streets") is None


def test_a_server_that_stops_answering_costs_its_rows_alone(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), tracked(make_config(tmp_path)) as track:
        (tmp_path / "server").rename(tmp_path / "gone")
        track(ROW)
    assert len(caplog.messages) == 2  # the row, and the end of the run
    assert all("train.mlflow_experiment: the server did not answer" in line for line in caplog.messages)
    assert not any("\n" in line for line in caplog.messages)


def test_a_server_that_is_not_there_is_one_line_without_its_password(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hidden@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(
        ConfigError, match=r"train\.mlflow_experiment: .* did not take the run .*127\.0\.0\.1"
    ) as raised:
        tracked(make_config(tmp_path)).__enter__()
    assert "hidden" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_server_of_no_kind_that_mlflow_knows_is_one_line(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "gopher://server")
    with pytest.raises(ConfigError, match=r"train\.mlflow_experiment: .* did not take the run") as raised:
        tracked(make_config(tmp_path)).__enter__()
    assert "\n" not in str(raised.value)


def test_without_a_server_in_the_environment_the_option_is_refused(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with pytest.raises(ConfigError, match=r"train\.mlflow_experiment: needs .* set MLFLOW_TRACKING_URI"):
        tracked(make_config(tmp_path)).__enter__()


def test_without_mlflow_the_option_says_how_to_install_it(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)
    with pytest.raises(ConfigError, match=r"needs mlflow, which is not installed; pip install 'unet-ray\[mlflow\]'"):
        tracked(make_config(tmp_path)).__enter__()
