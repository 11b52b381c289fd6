"""Nodes that are about to be taken away, such as spot instances."""

from ray.train.v2._internal.execution.context import get_train_context


class Notices:
    """What this train worker was told of the nodes of its run; Ray Train's watcher tells all workers the same.

    ``ray.train.get_preemption_info`` would give that too, after all workers have asked for it together, which takes
    milliseconds of every step. Only rank 0 saves, so nobody else has to know.
    """

    def __init__(self) -> None:
        """Begin without a notice."""
        self._last: object = None

    def are_new(self) -> bool:
        """Tell, once for each notice, whether another one came."""
        found = get_train_context().preemption_context.preemption_info
        is_new = found is not None and found != self._last
        self._last = found
        return is_new
