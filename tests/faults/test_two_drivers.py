"""Two drivers on one output: they cooperate, or one is refused; a finished job is left alone."""

import random
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.faults.store import Kill, Rule, Stall
from tests.faults.trials import (
    ERROR,
    TABLES,
    Job,
    Stage,
    Undisturbed,
    WatchedStore,
    compare,
    experiment,
    run_undisturbed,
)
from tests.tally import Tally

PAIRS = 40


@pytest.fixture(scope="module")
def undisturbed() -> dict[Stage, Undisturbed]:
    return run_undisturbed()


def race(clean: Undisturbed, seed: int) -> dict[str, int]:
    """Run two drivers at once, one of which is killed in every other trial, and repeat the job when both are done."""
    rng = random.Random(seed)
    with WatchedStore(TABLES[clean.stage], clean.before) as store:
        pair = [Job(clean.stage, store) for _ in range(2)]
        number = rng.randint(1, 2 * clean.requests)
        held = Rule(act=Stall(rng.uniform(0.0, 0.2)), nth=rng.randint(1, clean.requests), times=3)
        store.rules = [Rule(act=Kill(pair[0].kill, after=rng.random() < 0.5), nth=number), held][seed % 2 :]
        for job in pair:
            job.start()
            time.sleep(rng.uniform(0.0, 0.3))
        codes = [job.wait() for job in pair]
        assert codes[1] == 0, pair[1].said
        assert codes[0] in (0, -signal.SIGKILL), codes
        store.rules = ()
        before = store.objects
        assert pair[0].run() == 0
        rewritten = {key for key, data in store.objects.items() if before.get(key) != data}
        assert rewritten <= {f"bucket/runs/run/{name}" for name in ("dataset/stats.json", "dataset/config.yaml")}
        return {"trials": 1, "kills": int(codes[0] != 0), **compare(store, clean)}


def test_two_drivers_at_once_and_a_third_that_comes_late_make_one_table(
    undisturbed: dict[Stage, Undisturbed], tally: Tally
) -> None:
    stages = list(undisturbed)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda seed: race(undisturbed[stages[seed // 2 % 2]], seed), range(PAIRS)))
    result: Counter[str] = Counter()
    for counts in found:
        result.update(counts)
    tally.add(**result)
    assert result["kills"] >= PAIRS // 8
    assert not any(result[kind] for kind in ("lost", "duplicated", "mismatched", "seen_too_soon")), result


@pytest.mark.parametrize("finished", [False, True])
def test_another_plan_is_refused_and_changes_nothing(undisturbed: dict[Stage, Undisturbed], finished: bool) -> None:
    clean = undisturbed["predict"]
    with WatchedStore(TABLES["predict"], clean.before) as store:
        job = Job("predict", store)
        if not finished:
            store.rules = [Rule(act=Kill(job.kill), operation="put", key="_seals/000001")]
        assert job.run() == (0 if finished else -signal.SIGKILL)
        store.rules = ()
        before = store.objects
        started = time.monotonic()
        other = Job("predict", store, experiment(predict__batch_size="2"))
        assert other.run() == ERROR
        print(f"refused after {time.monotonic() - started:.1f} s")  # noqa: T201
        assert other.said.startswith(
            "predict.batch_size: s3://bucket/runs/run/predictions was begun with 1, this job has 2"
        )
        assert store.objects == before
