"""Every request of `prepare` and `predict` fails, or takes the driver with it; then the job is run again.

With ``--exhaustive`` (`make faults`) every request fails in every way, otherwise the ways to fail take turns.

Whatever happened, the table ends with every planned row once, equal to that of an undisturbed run, and no reader ever
saw a part of it.
"""

import signal
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.faults.store import Answer, Kill, Reset, Rule
from tests.faults.trials import TABLES, Job, Stage, Undisturbed, WatchedStore, compare, run_undisturbed
from tests.tally import Tally

KILLS: Mapping[str, Callable[[Job, int], Rule]] = {
    "kill before": lambda job, number: Rule(act=Kill(job.kill), nth=number),
    "kill after": lambda job, number: Rule(act=Kill(job.kill, after=True), nth=number),
}
FAILURES: Mapping[str, Callable[[Job, int], Rule]] = {
    "reset before": lambda job, number: Rule(act=Reset(), nth=number),
    "reset after": lambda job, number: Rule(act=Reset(after=True), nth=number),
    "503 three times": lambda job, number: Rule(act=Answer("SlowDown"), nth=number, times=3),
}
AT_ONCE = 3  # trials: with retries they mostly wait


@pytest.fixture(scope="module")
def undisturbed() -> dict[Stage, Undisturbed]:
    return run_undisturbed()


def attempt(clean: Undisturbed, fault: str, number: int) -> dict[str, int]:
    """Let one request of a run fail, run again if that ended the job, and compare."""
    with WatchedStore(TABLES[clean.stage], clean.before) as store:
        job = Job(clean.stage, store)
        store.rules = [(KILLS | FAILURES)[fault](job, number)]
        code = job.run()
        killed = code == -signal.SIGKILL
        assert killed == (fault in KILLS), f"{fault} at request {number}: exit code {code} {job.said}"
        store.rules = ()
        if code != 0:
            assert job.run() == 0, f"{fault} at request {number}, then again: {job.said}"
        return {"trials": 1, "kills": int(killed), **compare(store, clean)}


@pytest.mark.parametrize("stage", ["prepare", "predict"])
def test_no_request_that_fails_or_kills_the_driver_changes_the_table(
    stage: Stage, undisturbed: dict[Stage, Undisturbed], tally: Tally, pytestconfig: pytest.Config
) -> None:
    clean, failures = undisturbed[stage], list(FAILURES)
    trials = []
    for number in range(1, clean.requests + 1):
        turn = failures if pytestconfig.getoption("--exhaustive") else [failures[number % len(failures)]]
        trials += [(fault, number) for fault in (*KILLS, *turn)]
    assert len(trials) >= 100
    result: Counter[str] = Counter()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for found in pool.map(lambda trial: attempt(clean, *trial), trials):
            result.update(found)
    tally.add(**result)
    assert result["kills"] == 2 * clean.requests
    assert not any(result[kind] for kind in ("lost", "duplicated", "mismatched", "seen_too_soon")), result
