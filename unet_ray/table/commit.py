"""The committer: turns part messages into seals, and all seals into one published table. Runs on the driver."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from unet_ray.errors import QuarantineLimitError, TableError
from unet_ray.faults import outlast
from unet_ray.table.parts import Part
from unet_ray.table.plan import Plan, Units
from unet_ray.table.publish import Success, publish, read_success
from unet_ray.table.seals import Ledger, read_ledger, seal_shard


@dataclass(frozen=True, kw_only=True, slots=True)
class QuarantineLimits:
    """When a job stops because of its input: the share of planned rows, and the rows one after another."""

    fraction: float
    in_a_row: int = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a table is: rows that are written (sealed or not yet), and how many of them are quarantined.

    ``resumed`` of them were sealed before this driver came; ``pixels`` are those of the ok rows written since.
    """

    planned: int
    done: int
    quarantined: int
    resumed: int
    pixels: int = 0


class Committer:
    """Collects the messages of one driver and seals a shard as soon as all its units are there."""

    def __init__(self, plan: Plan, limits: QuarantineLimits) -> None:
        """Read the seals that are already there.

        Raises:
            QuarantineLimitError: More of their rows are quarantined than the job allows.
        """
        self._plan = plan
        self._limits = limits
        self._open: dict[int, list[Part]] = {}
        self._bad_run: Counter[str] = Counter()
        self.ledger: Ledger = read_ledger(plan)
        self._resumed = self._done = self.ledger.num_rows
        self._pixels = 0
        self._errors = Counter(self.ledger.errors)
        self._check_fraction()

    def pending(self) -> Units:
        """Return the units of every shard that has no seal, in plan order."""
        return self._plan.units(shard for shard in range(self._plan.num_shards) if shard not in self.ledger.shards)

    def accept(self, part: Part) -> None:
        """Take one message, and seal its shard if that was the last one missing.

        A message for a sealed shard, or for units that another message already covers, is left alone: its
        part becomes an orphan, which no reader sees.

        Raises:
            QuarantineLimitError: More rows are quarantined than the job allows.
        """
        if part.shard in self.ledger.shards:
            return
        parts = self._open.setdefault(part.shard, [])
        covered = {index for other in parts for index in other.units}
        if covered & set(part.units):
            return
        parts.append(part)
        self._done += part.num_rows
        self._pixels += part.num_pixels
        self._errors.update(part.errors)
        self._check_fraction()
        self._check_run(part)
        if len(covered) + len(part.units) == self._plan.num_units(part.shard):
            parts.sort(key=lambda item: item.units)
            seal = outlast(lambda: seal_shard(self._plan, part.shard, parts))
            self.ledger.add(seal)
            del self._open[part.shard]

    def progress(self) -> Progress:
        """Return how far the table is."""
        quarantined = self._errors.total()
        return Progress(
            planned=self._plan.num_rows,
            done=self._done,
            quarantined=quarantined,
            resumed=self._resumed,
            pixels=self._pixels,
        )

    def _check_fraction(self) -> None:
        quarantined = self._errors.total()
        if quarantined / self._plan.num_rows > self._limits.fraction:
            raise QuarantineLimitError(
                f"data.max_quarantined_fraction: {quarantined} of {self._plan.num_rows} rows cannot be used "
                f"({_list(self._errors)}), more than the share of {self._limits.fraction:g} that is allowed; nothing "
                "was published; repair the input or raise it"
            )

    def _check_run(self, part: Part) -> None:
        """Stop when whole parts of bad rows follow each other: that is a wrong path or bucket, not a few bad files."""
        self._bad_run = Counter() if part.num_ok else self._bad_run + Counter(part.errors)
        if self._bad_run.total() >= self._limits.in_a_row:
            raise QuarantineLimitError(
                f"data.max_quarantined_in_a_row: {self._bad_run.total()} rows that came one after another cannot be "
                f"used ({_list(self._bad_run)}), {self._limits.in_a_row} stop the job; nothing was published; check "
                "what the job is given to read, or raise it"
            )


def _list(errors: Counter[str]) -> str:
    return ", ".join(f"{code} {count}" for code, count in errors.most_common())


def fill(
    plan: Plan,
    produce: Callable[[Units], Iterable[Part]],
    *,
    limits: QuarantineLimits,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> tuple[Success, bool]:
    """Bring a table to its published end from wherever it is; safe to repeat, safe to run twice at once.

    Outlasts a store that stops answering.

    Args:
        plan: The stored plan.
        produce: Does the work: given units, yields a message for each part it wrote, in any order.
        limits: How many rows may be quarantined.
        on_progress: Called on the driver after each message.

    Returns:
        The published summary, and whether it was already there before this call.

    Raises:
        QuarantineLimitError: More rows are quarantined than the job allows; nothing is published.
        TableError: ``produce`` ended with units missing; call again to go on.
    """
    done = outlast(lambda: read_success(plan.uri))
    if done is not None:
        return done, True
    committer = outlast(lambda: Committer(plan, limits))
    on_progress(committer.progress())
    pending = committer.pending()
    if len(pending):
        for part in produce(pending):
            committer.accept(part)
            on_progress(committer.progress())
    missing = len(committer.pending())
    if missing:
        raise TableError(f"{plan.uri}: the job ended with {missing} units missing; run the same command again")
    return outlast(lambda: publish(plan, committer.ledger)), False
