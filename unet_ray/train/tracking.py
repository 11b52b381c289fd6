"""MLflow: a run's settings and scores in a tracking server, for teams that compare their runs there.

Runs on the driver. The record is the history (`history.write_history`): a server that stops answering costs its own
rows alone. Which server, and who we are to it, MLflow takes from the environment (``MLFLOW_TRACKING_URI`` and others).
"""

import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from operator import attrgetter
from typing import Any

from unet_ray.config import Config
from unet_ray.config_file import leaves
from unet_ray.errors import ConfigError

logger = logging.getLogger(__name__)

Track = Callable[[Mapping[str, Any]], None]

_KEY = "train.mlflow_experiment"
_TAG = "unet_ray.run"
_MOST_PARAMS = 100  # in a request
_LONGEST_PARAM = 500
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # this is nobody else's business
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # the defaults take minutes to notice that there is no server
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


@contextmanager
def tracked(config: Config) -> Iterator[Track]:
    """Give a function that sends an epoch's row of the history to MLflow, or does nothing where none is asked for.

    A run that goes on has the MLflow run that it had before, which is known by the tag ``unet_ray.run``.

    Raises:
        ConfigError: mlflow is not installed, there is no server named, or it does not take the run.
    """
    if config.train.mlflow_experiment is None:
        yield lambda row: None
        return
    make_client = _client_class()
    try:
        client = make_client()
        run_id = _open_run(client, config)
    except Exception as error:
        raise ConfigError(
            f"{_KEY}: the server that MLFLOW_TRACKING_URI names did not take the run ({_say(error)}); "
            "start it, correct the variable, or leave the option out"
        ) from None

    def track(row: Mapping[str, Any]) -> None:
        _attempt(lambda: client.log_batch(run_id, metrics=_metrics(row)))

    end = "FAILED"
    try:
        yield track
        end = "FINISHED"
    finally:
        _attempt(lambda: client.set_terminated(run_id, end))


def _client_class() -> Callable[[], Any]:
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if "MLFLOW_TRACKING_URI" not in os.environ:
        raise ConfigError(f"{_KEY}: needs the tracking server in the environment: set MLFLOW_TRACKING_URI")
    try:
        from mlflow.tracking import MlflowClient
    except ImportError:
        raise ConfigError(f"{_KEY}: needs mlflow, which is not installed; pip install 'unet-ray[mlflow]'") from None
    return MlflowClient


def _open_run(client: Any, config: Config) -> str:
    """Return the id of the MLflow run of a run, which is made where there is none."""
    from mlflow.entities import Param

    name = config.train.mlflow_experiment
    experiment = client.get_experiment_by_name(name)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(name)
    uri = config.train_uri.replace("'", "%27")  # which ends a string in MLflow's filters
    if found := client.search_runs([experiment_id], filter_string=f"tags.`{_TAG}` = '{uri}'", max_results=1):
        run_id = str(found[0].info.run_id)
        client.update_run(run_id, status="RUNNING")
        return run_id
    run_id = str(client.create_run(experiment_id, run_name=config.run.name, tags={_TAG: uri}).info.run_id)
    params = [
        Param(key, json.dumps(attrgetter(key)(config), default=repr)[:_LONGEST_PARAM].strip('"'))
        for key, *_ in leaves()
    ]
    for first in range(0, len(params), _MOST_PARAMS):
        client.log_batch(run_id, params=params[first : first + _MOST_PARAMS])
    return run_id


def _metrics(row: Mapping[str, Any]) -> list[Any]:
    """Return every number of a row; what is undefined is left out."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    numbers = {key: value for key, value in row.items() if isinstance(value, int | float) and key != "epoch"}
    return [Metric(key, float(value), now, row["epoch"]) for key, value in numbers.items()]


def _attempt(send: Callable[[], object]) -> None:
    try:
        send()
    except Exception as error:
        logger.warning("%s: the server did not answer, training goes on without (%s)", _KEY, _say(error))


def _say(error: Exception) -> str:
    """Return an error in a line, without the password that a URI may hold."""
    return re.sub(r"//[^/@\s]*@", "//", " ".join(str(error).split()))[:300]
