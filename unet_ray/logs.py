"""Log lines of a driver: text for people, and JSON in a submitted job, whose log a cluster collects.

A JSON line has ``time`` (UTC, ISO 8601), ``level`` and ``message``; nothing else that a job prints has all three.
"""

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from unet_ray.access import is_submitted

_NOISY = ("ray", "ray.data", "ray.train")
_CLOCK = "%H:%M:%S"


def set_up_logging(environment: Mapping[str, str]) -> None:
    """Send what `unet_ray` logs to standard error, and of Ray's own lines only errors."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if is_submitted(environment) else _OneLine("%(asctime)s %(message)s", datefmt=_CLOCK))
    ours = logging.getLogger("unet_ray")
    ours.handlers, ours.propagate = [handler], False
    ours.setLevel(logging.INFO)
    for noisy in _NOISY:
        logging.getLogger(noisy).setLevel(logging.ERROR)


def complain(message: str, environment: Mapping[str, str]) -> None:
    """Write the error that ends a command, as one line."""
    line = " ".join(message.split())
    now = datetime.now(UTC)
    text = _as_json(now, "ERROR", line) if is_submitted(environment) else f"error: {printable(line)}"
    sys.stderr.write(f"{text}\n")


def as_text(line: str) -> str:
    """Return a line of a job's log as this machine's own would look: the JSON of one as text, others as they are."""
    record = as_record(line)
    if record is None or not record.keys() >= {"time", "level", "message"}:
        return printable(line.expandtabs())
    message = printable(str(record["message"]))
    if record["level"] == "ERROR":
        return f"error: {message}"
    try:
        when = datetime.fromisoformat(str(record["time"])).astimezone()
    except ValueError:
        return message
    return f"{when:{_CLOCK}} {message}"


def as_record(line: str) -> dict[str, Any] | None:
    """Return a line that holds a JSON object as it, others as None."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def printable(text: str) -> str:
    """Escape what could forge a line or drive a terminal: names of files and words of stores are not ours."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


class _OneLine(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(super().formatMessage(record))


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.exc_info:
            text += f"\n{self.formatException(record.exc_info)}"
        return _as_json(datetime.fromtimestamp(record.created, UTC), record.levelname, text)


def _as_json(time: datetime, level: str, message: str) -> str:
    return json.dumps({"time": time.isoformat(timespec="milliseconds"), "level": level, "message": message})
