"""Log lines of a driver: text for people, and JSON in a submitted job, whose log a cluster collects.

A JSON line has ``time`` (UTC, ISO 8601), ``level`` and ``message``; nothing else that a job prints has all three.
"""

import json
import logging
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

from unet_ray.access import is_submitted
from unet_ray.terminal import CLEAR, columns_of, has_colours, is_terminal, paint

LIVE = {"live": True}
"""``extra`` of a line that tells how far a job is: a terminal has the next line over it, a log has one in 30 s."""

_NOISY = ("ray", "ray.data", "ray.train")
_SELDOM_S = 30.0

logger = logging.getLogger("unet_ray")


def set_up_logging(environment: Mapping[str, str], *, quiet: bool = False) -> None:
    """Send what `unet_ray` logs to standard error, ``quiet`` only warnings and errors; of Ray's own only errors."""
    handler = (_Terminal if is_terminal(sys.stderr, environment) else _Log)(sys.stderr)
    handler.setFormatter(_Json() if is_submitted(environment) else _Text(colours=has_colours(sys.stderr, environment)))
    handler.setLevel(logging.WARNING if quiet else logging.INFO)
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO)
    for noisy in _NOISY:
        logging.getLogger(noisy).setLevel(logging.ERROR)


def complain(message: str, trace: BaseException | None = None) -> None:
    """Write the error that ends a command as one line, and where it came from before it, if that is asked for."""
    logger.error("%s", " ".join(message.split()), exc_info=trace)


def relay(line: str) -> None:
    """Write a line of a submitted job's log as one of this process; what is no log line stays as it is."""
    record = _as_log_record(line)
    if record is None:
        sys.stderr.write(f"{printable(line.expandtabs())}\n")
    else:
        logger.handle(record)


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


def _as_log_record(line: str) -> logging.LogRecord | None:
    said = as_record(line) or {}
    try:
        return logging.makeLogRecord(
            {
                "msg": str(said["message"]),
                "levelname": said["level"],
                "levelno": logging.getLevelNamesMapping()[said["level"]],
                "created": datetime.fromisoformat(said["time"]).timestamp(),
            }
        )
    except (KeyError, TypeError, ValueError):
        return None


def _is_live(record: logging.LogRecord) -> bool:
    return getattr(record, "live", False)


class _Terminal(logging.StreamHandler[TextIO]):
    """Writes each line over a live one."""

    def emit(self, record: logging.LogRecord) -> None:
        self.terminator = "" if _is_live(record) else "\n"
        super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return CLEAR + (text[: columns_of(self.stream) - 1] if _is_live(record) else text)


class _Log(logging.StreamHandler[TextIO]):
    """Leaves out live lines that follow one within 30 s."""

    _last = -_SELDOM_S

    def emit(self, record: logging.LogRecord) -> None:
        if _is_live(record):
            now = time.monotonic()
            if now - self._last < _SELDOM_S:
                return
            self._last = now
        super().emit(record)


class _Text(logging.Formatter):
    """Text in which whatever a message holds stays on its line; a trace is set off before the error that it is of."""

    def __init__(self, *, colours: bool) -> None:
        super().__init__(datefmt="%H:%M:%S")
        self._colours = colours

    def format(self, record: logging.LogRecord) -> str:
        message = _message(record)
        if record.levelno >= logging.ERROR:
            error, *trace = message.split("\n")
            return "\n".join([*(f"  {printable(line)}" for line in trace), f"{self._label(record)}{printable(error)}"])
        return f"{self.formatTime(record, self.datefmt)} {self._label(record)}{printable(message)}"

    def _label(self, record: logging.LogRecord) -> str:
        if record.levelno < logging.WARNING:
            return ""
        is_error = record.levelno >= logging.ERROR
        word = "error:" if is_error else "warning:"
        return f"{paint(word, 'red' if is_error else 'yellow') if self._colours else word} "


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        now = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        return json.dumps({"time": now, "level": record.levelname, "message": _message(record)})


def _message(record: logging.LogRecord) -> str:
    text = record.getMessage()
    if record.exc_info:
        text += f"\n{logging.Formatter().formatException(record.exc_info)}"
    return text
