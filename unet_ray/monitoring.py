"""Numbers of a job while it runs, at Ray's Prometheus endpoint: the one list of them, and who sends them.

Runs on the driver, with Ray connected. What counts is `job_record` and the history; a number that is lost here, as the
last seconds of a job may be, is lost to a curve on a screen alone.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """A number by its name, which Prometheus shows with ``ray_`` before it and, if it only grows, ``_total`` behind.

    ``tags`` come beside ``command`` and ``run``, which all series have; ``unit`` is one of Grafana's, of the rate where
    it only grows.
    """

    name: str
    kind: Literal["counter", "gauge"]
    unit: str
    help: str
    tags: tuple[str, ...] = ()


ROWS = Series(name="unet_ray_rows", kind="counter", unit="short", help="Rows written", tags=("status",))
PIXELS = Series(name="unet_ray_pixels", kind="counter", unit="short", help="Pixels of the rows written")
BYTES_WRITTEN = Series(name="unet_ray_bytes_written", kind="counter", unit="Bps", help="Bytes of the parts written")
BYTES_READ = Series(
    name="unet_ray_bytes_read", kind="counter", unit="Bps", help="Bytes read from the store", tags=("stage",)
)
STAGE_SECONDS = Series(
    name="unet_ray_stage_seconds", kind="counter", unit="s", help="Seconds that processes spent", tags=("stage",)
)
STAGE_CPU_SECONDS = Series(
    name="unet_ray_stage_cpu_seconds", kind="counter", unit="s", help="Seconds of the cores", tags=("stage",)
)
OUTLASTED = Series(
    name="unet_ray_outlasted",
    kind="counter",
    unit="short",
    help="Waits for a store that did not answer",
    tags=("stage",),
)
PROCESSES = Series(
    name="unet_ray_processes", kind="gauge", unit="short", help="Processes that a stage may have", tags=("stage",)
)
EPOCH = Series(name="unet_ray_epoch", kind="gauge", unit="short", help="Epoch, with the part of it that is done")
SAMPLES_PER_S = Series(name="unet_ray_samples_per_s", kind="gauge", unit="short", help="Training pairs a second")
DATA_WAIT = Series(
    name="unet_ray_data_wait", kind="gauge", unit="percentunit", help="Part of the time that training waits for data"
)
TRAIN_LOSS = Series(name="unet_ray_train_loss", kind="gauge", unit="short", help="Mean loss of an epoch")
VAL_MIOU = Series(name="unet_ray_val_miou", kind="gauge", unit="short", help="mIoU of a validation")
VAL_ACCURACY = Series(name="unet_ray_val_accuracy", kind="gauge", unit="short", help="Pixel accuracy of a validation")
SKIPPED_STEPS = Series(
    name="unet_ray_skipped_steps", kind="counter", unit="short", help="Steps without a finite loss or gradient"
)
TRAIN_WORKERS = Series(name="unet_ray_train_workers", kind="gauge", unit="short", help="Training workers")
WORKER_FAILURES = Series(
    name="unet_ray_worker_failures", kind="counter", unit="short", help="Times that training workers failed"
)

_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_COLUMNS, _WIDTH, _HEIGHT = 3, 8, 8  # of Grafana's grid, which is 24 wide

SERIES = (
    ROWS, PIXELS, BYTES_WRITTEN, BYTES_READ, STAGE_SECONDS, STAGE_CPU_SECONDS, OUTLASTED, PROCESSES,
    EPOCH, SAMPLES_PER_S, DATA_WAIT, TRAIN_LOSS, VAL_MIOU, VAL_ACCURACY, SKIPPED_STEPS, TRAIN_WORKERS, WORKER_FAILURES,
)  # fmt: skip


class Monitor:
    """Sends the numbers of one job."""

    def __init__(self, command: str, run: str) -> None:
        """Begin with nothing.

        Args:
            command: Name of the command.
            run: Name of the experiment.
        """
        self._always = {"command": command, "run": run}
        self._metrics: dict[str, Any] = {}

    def send(self, series: Series, value: float | None, **tags: str) -> None:
        """Set a gauge, or add to a counter; what is undefined is left out."""
        if value is None:
            return
        metric, labels = self._metric(series), {**self._always, **tags}
        if series.kind == "gauge":
            metric.set(value, tags=labels)
        elif value:
            metric.inc(value, tags=labels)

    def _metric(self, series: Series) -> Any:
        from ray.util.metrics import Counter, Gauge

        if series.name not in self._metrics:
            kind = Counter if series.kind == "counter" else Gauge
            keys = (*self._always, *series.tags)
            self._metrics[series.name] = kind(series.name, description=series.help, tag_keys=keys)
        return self._metrics[series.name]


def make_dashboard() -> Mapping[str, Any]:
    """Return a Grafana dashboard with a panel for each of `SERIES`: counters as rates, gauges as they are.

    Pure. ``python -m unet_ray.monitoring`` writes it as ``cluster/grafana.json``, which Grafana imports.
    """
    return {
        "title": "unet-ray",
        "uid": "unet-ray",
        "schemaVersion": 39,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "label": "Source", "type": "datasource", "query": "prometheus"},
                _choice_of_runs(),
            ]
        },
        "panels": [_panel(number, series) for number, series in enumerate(SERIES)],
    }


def _choice_of_runs() -> Mapping[str, Any]:
    shown = "|".join(f"ray_{series.name}" for series in (EPOCH, PROCESSES))
    query = f'label_values({{__name__=~"{shown}"}}, run)'
    return {
        "name": "run", "label": "Run", "type": "query", "datasource": _SOURCE, "query": query, "definition": query,
        "includeAll": True, "multi": True, "refresh": 2, "current": {"text": "All", "value": "$__all"},
    }  # fmt: skip


def _panel(number: int, series: Series) -> Mapping[str, Any]:
    grows = series.kind == "counter"
    labels = ("run", "command", *series.tags)
    chosen = f'ray_{series.name}{"_total" if grows else ""}{{run=~"$run"}}'
    shown = (
        f"sum by ({', '.join(labels)}) (rate({chosen}[1m]))" if grows else f"max by ({', '.join(labels)}) ({chosen})"
    )
    row, column = divmod(number, _COLUMNS)
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": f"{series.help}, per second" if grows else series.help,
        "datasource": _SOURCE,
        "gridPos": {"x": column * _WIDTH, "y": row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": series.unit}, "overrides": []},
        "targets": [{"refId": "A", "expr": shown, "legendFormat": " ".join(f"{{{{{label}}}}}" for label in labels)}],
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(make_dashboard(), indent=1) + "\n")
