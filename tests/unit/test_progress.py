import logging
import re

import pytest

from unet_ray.progress import Meter, format_duration
from unet_ray.table.commit import Progress


class Clock:
    """A monotonic clock that a test turns."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("unet_ray.progress.time.monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def run(
    clock: Clock, caplog: pytest.LogCaptureFixture, states: list[tuple[float, int]], resumed: int = 0, bad: int = 0
) -> list[str]:
    """Return what a meter logs when a job of 100 rows is at these (seconds, rows done)."""
    meter, start = Meter("predict", "frames"), clock.now
    with caplog.at_level(logging.INFO, "unet_ray.progress"):
        for seconds, done in states:
            clock.now = start + seconds
            meter(Progress(planned=100, done=done, quarantined=bad, resumed=resumed))
    return caplog.messages


def test_a_live_line_is_logged_twice_a_second_and_one_that_stays_at_the_end(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    lines = run(clock, caplog, [(0, 0), *((10 + 0.25 * number, 10 * number) for number in range(1, 11))])
    assert lines == [
        "predict: 10/100 frames",
        "predict: 30/100 frames",
        "predict: 50/100 frames, 40.0/s, 1 s left",
        "predict: 70/100 frames, 40.0/s, 1 s left",
        "predict: 90/100 frames, 40.0/s, 0 s left",
        "predict: 100/100 frames, 40.0/s",
    ]
    assert [getattr(record, "live", False) for record in caplog.records] == [True] * 5 + [False]


def test_start_up_is_not_throughput(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    assert run(clock, caplog, [(0, 0), (500, 10), (510, 60)])[-1] == "predict: 60/100 frames, 5.0/s, 8 s left"


def test_resumed_rows_are_named_and_do_not_count_as_throughput(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    lines = run(clock, caplog, [(0, 40), (30, 50), (40, 80)], resumed=40)
    assert lines[0] == "predict: 40 of 100 frames are sealed already"
    assert lines[-1] == "predict: 80/100 frames, 3.0/s, 7 s left"


def test_a_job_that_has_only_to_be_published_says_so(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    assert run(clock, caplog, [(0, 100)], resumed=100) == ["predict: 100 of 100 frames are sealed already"]


def test_a_job_of_one_message_ends_with_a_line(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    assert run(clock, caplog, [(0, 0), (5, 100)]) == ["predict: 100/100 frames"]


def test_no_rate_is_told_of_a_moment(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    assert run(clock, caplog, [(0, 0), (5, 60), (5.01, 100)])[-1] == "predict: 100/100 frames"


def test_quarantined_rows_are_named(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    assert re.search(r"frames.*, 3 quarantined$", run(clock, caplog, [(0, 0), (1, 10), (4, 20)], bad=3)[-1])


def test_pixels_are_told_beside_frames(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    meter, start = Meter("predict", "frames"), clock.now
    with caplog.at_level(logging.INFO, "unet_ray.progress"):
        for seconds, done in [(0, 0), (1, 10), (4, 40)]:
            clock.now = start + seconds
            meter(Progress(planned=100, done=done, quarantined=0, resumed=0, pixels=done * 2_000_000))
    assert caplog.messages[-1] == "predict: 40/100 frames, 10.0/s (20.0 Mpx/s), 6 s left"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (200, "3 min 20 s"),
        (3599.9, "1 h 0 min"),
        (7500, "2 h 5 min"),
        (100 * 3600, "100 h 0 min"),
    ],
)
def test_durations_are_told_in_two_units(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
