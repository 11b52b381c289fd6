"""``job.json``: what a job over a table took, as it was measured in the processes that did it. Runs on the driver."""

import json
import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from unet_ray import storage
from unet_ray.errors import NotFoundError
from unet_ray.monitoring import (
    BYTES_READ,
    BYTES_WRITTEN,
    OUTLASTED,
    PIXELS,
    PROCESSES,
    ROWS,
    STAGE_CPU_SECONDS,
    STAGE_SECONDS,
    Monitor,
)
from unet_ray.spending import Spending, Spent
from unet_ray.table.parts import Part

logger = logging.getLogger(__name__)

_FILE = "job.json"


class JobRecord:
    """Adds up the messages of one run of a job, from the moment it is made, and sends them to `monitoring`."""

    def __init__(self, job: str, run: str, processes: Mapping[str, int]) -> None:
        """Begin a record.

        Args:
            job: Name of the command.
            run: Name of the experiment.
            processes: Names of its stages, and how many processes each can have at a time.
        """
        self._job = job
        self._monitor = Monitor(job, run)
        self._processes = processes
        self._begun_at = datetime.now(UTC)
        self._begun = time.monotonic()
        self._spending: dict[str, Spent] = defaultdict(Spent)
        self._rows = self._quarantined = self._pixels = self._bytes_written = 0
        self._first: float | None = None
        self._last = self._begun

    def watch(self, messages: Iterable[tuple[Part, Spending]]) -> Iterator[Part]:
        """Take note of each message on its way to the committer."""
        for part, spending in messages:
            self._last = time.monotonic()
            self._first = self._first or self._last
            self._rows += part.num_rows
            self._quarantined += part.num_rows - part.num_ok
            self._pixels += part.num_pixels
            self._bytes_written += part.size_bytes
            for stage, spent in spending.items():
                self._spending[stage] += spent
            self._send(part, spending)
            yield part

    def write(self, uri: str) -> None:
        """Write ``job.json`` beside the table and log the gist, unless the run found nothing to do."""
        if self._first is None:
            return
        document = self._document()
        storage.write(f"{uri}/{_FILE}", json.dumps(document, indent=1).encode())
        logger.info("%s: %s", self._job, describe_job(document))

    def _send(self, part: Part, spending: Spending) -> None:
        send = self._monitor.send
        send(ROWS, part.num_ok, status="ok")
        send(ROWS, part.num_rows - part.num_ok, status="quarantined")
        send(PIXELS, part.num_pixels)
        send(BYTES_WRITTEN, part.size_bytes)
        for stage, spent in spending.items():
            send(STAGE_SECONDS, spent.seconds, stage=stage)
            send(STAGE_CPU_SECONDS, spent.cpu_seconds, stage=stage)
            send(BYTES_READ, spent.bytes_read, stage=stage)
            send(OUTLASTED, spent.outlasted, stage=stage)
            send(PROCESSES, self._processes[stage], stage=stage)

    def _document(self) -> dict[str, Any]:
        assert self._first is not None
        seconds = self._last - self._begun
        stages = {
            name: asdict(self._spending[name])
            | {"processes": processes, "busy": self._spending[name].seconds / (seconds * processes)}
            for name, processes in self._processes.items()
        }
        return {
            "job": self._job,
            "begun_at": self._begun_at.isoformat(timespec="seconds"),
            "seconds": seconds,
            "first_part_s": self._first - self._begun,
            "rows": self._rows,
            "quarantined": self._quarantined,
            "megapixels": self._pixels / 1e6,
            "bytes_written": self._bytes_written,
            "rows_per_s": self._rows / seconds,
            "stages": stages,
        }


def describe_job(job: Mapping[str, Any]) -> str:
    """Return the gist of a record: how much, how fast, and how busy the processes of each stage were."""
    busy = ", ".join(f"{name} {100 * stage['busy']:.0f} %" for name, stage in job["stages"].items())
    return (
        f"{job['rows']} rows, {job['megapixels']:.1f} megapixels in {job['seconds']:.1f} s; "
        f"of the time that its processes had, they were busy: {busy}"
    )


def read_job(uri: str) -> Mapping[str, Any] | None:
    """Return what the last run that wrote to a table measured, None where there is no record."""
    try:
        document: Mapping[str, Any] = json.loads(storage.read_bytes(f"{uri}/{_FILE}"))
    except NotFoundError:
        return None
    return document
