import json
import logging
from datetime import datetime

import pytest

from unet_ray.logs import as_text, complain, set_up_logging

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
    complain("run.name: must be\ta word", SUBMITTED)
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
    texts = []
    for environment in ({}, SUBMITTED):
        set_up_logging(environment)
        record = logging.LogRecord("unet_ray.x", logging.INFO, __file__, 1, "mIoU %.2f \x07", (0.5,), None)
        logging.getLogger("unet_ray").handle(record)
        complain("no\x07 such file", environment)
        texts.append(capsys.readouterr().err.splitlines())
    here, there = texts
    assert [as_text(line) for line in there] == here
    assert here[1] == "error: no\\x07 such file"


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("Traceback (most recent call last):", "Traceback (most recent call last):"),
        ('{"dataset": "s3://b/d"}', '{"dataset": "s3://b/d"}'),
        ("[1, 2]", "[1, 2]"),
        ('"text"', '"text"'),
        ("a\tb\x1b[0m", "a       b\\x1b[0m"),
        ('{"time": "yesterday", "level": "INFO", "message": "m"}', "m"),
        ("", ""),
    ],
)
def test_what_is_no_log_line_is_left_as_it_is(line: str, text: str) -> None:
    assert as_text(line) == text


def test_noise_of_ray_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging({})
    logging.getLogger("ray.data").warning("noise")
    assert capsys.readouterr().err == ""
