"""What a failed train worker means: an error of ours ends the run at once, a worker that died is replaced."""

from typing import Any

from ray.exceptions import RayActorError
from ray.train import UserCallback, WorkerGroupError
from ray.util.queue import Queue

from unet_ray.runtime import our_error


class Failures(UserCallback):
    """Hears of failed workers in Ray Train's controller, before it replaces them."""

    def __init__(self, messages: Queue) -> None:
        """Make a callback; of workers that will be replaced it sends ``{"failed": why}``."""
        self._messages = messages

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """End the run with the first error of ours, which would only come again; it has outlasted what may pass."""
        for error in worker_exceptions.values():
            if known := our_error(error):
                raise known
        self._messages.put({"failed": describe(worker_exceptions)})


def describe(worker_exceptions: dict[int, Exception]) -> str:
    """Return one line on why workers failed: a death before what the others suffered from it."""
    causes = {rank: death(error) for rank, error in sorted(worker_exceptions.items())}
    rank = next((rank for rank, cause in causes.items() if cause), min(worker_exceptions))
    error = causes[rank] or worker_exceptions[rank]
    return f"worker {rank}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"


def death(error: Exception) -> RayActorError | None:
    """Return how Ray noticed that a worker's process died, None when the worker raised the error itself."""
    cause = getattr(error, "health_check_failure", None)
    return cause if isinstance(cause, RayActorError) else None


def died(error: WorkerGroupError) -> bool:
    """Tell whether a worker's process died in the failure that Ray Train gave up at."""
    return any(map(death, error.worker_failures.values()))
