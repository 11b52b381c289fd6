from typing import Any

import pytest
from ray.exceptions import RayActorError
from ray.train import WorkerGroupError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

from unet_ray.errors import AccessError, UnetRayError
from unet_ray.train.failures import Failures, describe, died

DEATH = WorkerHealthCheckFailedError("not healthy", RayActorError(error_msg="it was\nkilled"))
COLLATERAL = RuntimeError("Connection closed by peer")


class Sent(list[dict[str, Any]]):
    """What a queue would have carried."""

    def put(self, message: dict[str, Any]) -> None:
        self.append(message)


def test_an_error_of_ours_ends_the_run_and_any_other_is_told_and_tried_again() -> None:
    sent = Sent()
    failures = Failures(sent)  # type: ignore[arg-type]
    failures.after_exception(None, {0: COLLATERAL, 1: DEATH})
    assert len(sent) == 1
    wrapped = RuntimeError("a task failed")
    wrapped.__cause__ = AccessError("refused")
    with pytest.raises(AccessError, match="refused") as raised:
        failures.after_exception(None, {0: COLLATERAL, 1: wrapped})
    assert isinstance(raised.value, UnetRayError)
    assert len(sent) == 1


def test_a_death_is_told_before_what_the_others_suffered_from_it() -> None:
    line = describe({0: COLLATERAL, 1: DEATH})
    assert line.startswith("worker 1: RayActorError: it was killed")
    assert "\n" not in line

    assert describe({1: COLLATERAL, 2: COLLATERAL}) == "worker 1: RuntimeError: Connection closed by peer"


def test_only_a_process_that_is_gone_counts_as_a_death() -> None:
    assert died(WorkerGroupError("failed", {0: COLLATERAL, 1: DEATH}))
    assert not died(WorkerGroupError("failed", {0: COLLATERAL}))
    assert not died(WorkerGroupError("failed", {0: WorkerHealthCheckFailedError("late", TimeoutError())}))
