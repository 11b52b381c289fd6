"""Progress of a table job: how far, how fast, how long still. Runs on the driver."""

import logging
import time

from unet_ray.logs import LIVE
from unet_ray.table.commit import Progress

logger = logging.getLogger(__name__)

_EVERY_S = 0.5
_SHORTEST_S = 1.0  # a rate over less is noise


class Meter:
    """Logs a live line twice a second and one that stays at the end; call it with each `Progress`."""

    def __init__(self, stage: str, noun: str) -> None:
        """Make a meter whose clock starts with the first rows done: start-up is not throughput."""
        self._stage = stage
        self._noun = noun
        self._begun: tuple[float, int, int] | None = None
        self._logged = 0.0

    def __call__(self, now: Progress) -> None:
        """Take note of a new state."""
        clock = time.monotonic()
        if now.done == now.resumed:
            if now.resumed:
                logger.info("%s: %d of %d %s are sealed already", self._stage, now.resumed, now.planned, self._noun)
            return
        if self._begun is None:
            self._begun = (clock, now.done, now.pixels)
        finished = now.done == now.planned
        if clock - self._logged < _EVERY_S and not finished:
            return
        self._logged = clock
        elapsed = clock - self._begun[0]
        rate, pixel_rate = (
            (have - had) / elapsed if elapsed >= _SHORTEST_S else 0.0
            for have, had in zip((now.done, now.pixels), self._begun[1:], strict=True)
        )
        speed = f", {rate:.1f}/s" if rate else ""
        speed += f" ({pixel_rate / 1e6:.1f} Mpx/s)" if pixel_rate else ""
        eta = f", {format_duration((now.planned - now.done) / rate)} left" if rate and not finished else ""
        bad = f", {now.quarantined} quarantined" if now.quarantined else ""
        text = f"{self._stage}: {now.done}/{now.planned} {self._noun}{speed}{eta}{bad}"
        logger.info("%s", text, extra=None if finished else LIVE)


def format_duration(seconds: float) -> str:
    """Return seconds as ``45 s``, ``3 min 20 s`` or ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
