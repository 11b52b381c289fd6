import json
import logging
import re
from datetime import datetime

import pytest

from unet_ray.logs import LIVE, complain, relay, set_up_logging

SUBMITTED = {"RAY_JOB_CONFIG_JSON_ENV_VAR": "{}"}


def test_a_submitted_job_logs_lines_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging(SUBMITTED)
    logger = logging.getLogger("unet_ray.some.module")
    logger.info("frame %s\n%s", "é\x1b[2J", "forged")
    logger.debug("not shown")
    try:
        raise ValueError("inside")
    except ValueError:
        logger.exception("outside")
    complain("run.name: must be\ta word")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "\x1b" not in captured.err
    first, second, third = (json.loads(line) for line in captured.err.splitlines())
    assert (first["level"], first["message"]) == ("INFO", "frame é\x1b[2J\nforged")
    assert (second["level"], second["message"].splitlines()[0]) == ("ERROR", "outside")
    assert second["message"].endswith("ValueError: inside")
    assert (third["level"], third["message"]) == ("ERROR", "run.name: must be a word")
    assert all(datetime.fromisoformat(line["time"]).utcoffset() is not None for line in (first, second, third))


def test_lines_of_a_job_read_as_those_of_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for environment in ({}, SUBMITTED):
        set_up_logging(environment)
        for level in (logging.INFO, logging.WARNING):
            record = logging.LogRecord("unet_ray.x", level, __file__, 1, "mIoU %.2f \x07", (0.5,), None)
            logging.getLogger("unet_ray").handle(record)
        complain("no\x07 such file", raised("\x07\nforged"))
        said.append(capsys.readouterr().err)
    set_up_logging({})
    for line in said[1].splitlines():
        relay(line)
    assert capsys.readouterr().err == said[0]
    assert re.fullmatch(
        r"""\d\d:\d\d:\d\d mIoU 0.50 \\x07
\d\d:\d\d:\d\d warning: mIoU 0.50 \\x07
  Traceback \(most recent call last\):
(  .*\n)+  ValueError: \\x07
  forged
error: no\\x07 such file
""",
        said[0],
    )


def raised(message: str) -> ValueError:
    try:
        raise ValueError(message)
    except ValueError as error:
        return error


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("Traceback (most recent call last):", "Traceback (most recent call last):"),
        ('{"dataset": "s3://b/d"}', '{"dataset": "s3://b/d"}'),
        ("[1, 2]", "[1, 2]"),
        ('"text"', '"text"'),
        ("a\tb\x1b[0m", "a       b\\x1b[0m"),
        ('{"time": "yesterday", "level": "INFO", "message": "m"}',) * 2,
        ('{"time": 1, "level": "INFO", "message": "m"}',) * 2,
        ('{"time": "2026-01-01T00:00:00", "level": ["INFO"], "message": "m"}',) * 2,
        ('{"time": "2026-01-01T00:00:00", "level": "LOUD", "message": "m"}',) * 2,
        ("", ""),
    ],
)
def test_what_is_no_log_line_is_left_as_it_is(line: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging({})
    relay(line)
    assert capsys.readouterr().err == f"{text}\n"


def test_quiet_are_warnings_and_errors_of_here_and_of_a_job(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging({}, quiet=True)
    for level in ("INFO", "WARNING", "ERROR"):
        logging.getLogger("unet_ray.x").log(logging.getLevelNamesMapping()[level], "here")
        relay(json.dumps({"time": "2026-01-01T00:00:00+00:00", "level": level, "message": "there"}))
    said = re.sub(r"\d\d:\d\d:\d\d ", "", capsys.readouterr().err)
    assert said.splitlines() == ["warning: here", "warning: there", "error: here", "error: there"]


def test_a_log_has_a_live_line_in_30_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 5.0
    monkeypatch.setattr("unet_ray.logs.time.monotonic", lambda: now)
    set_up_logging({})
    for now in (5.0, 34.9, 35.0, 36.0, 65.1):
        logging.getLogger("unet_ray").info("%s", now, extra=LIVE)
    logging.getLogger("unet_ray").info("done")
    assert [line.split()[1] for line in capsys.readouterr().err.splitlines()] == ["5.0", "35.0", "65.1", "done"]


def test_noise_of_ray_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging({})
    logging.getLogger("ray.data").warning("noise")
    assert capsys.readouterr().err == ""
