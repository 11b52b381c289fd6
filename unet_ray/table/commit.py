"""The committer: turns part messages into seals, and all seals into one published table. Runs on the driver."""

import json
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

from unet_ray import storage
from unet_ray.errors import ExistsError, NotFoundError, QuarantineLimitError, TableError
from unet_ray.table.parts import Part, Totals, add_totals
from unet_ray.table.plan import Plan, Unit
from unet_ray.table.publish import Success, publish, read_success

_READERS = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Seal:
    """The parts that count for a shard. ``attempt`` is unique: it tells our seal from another driver's."""

    run_id: str
    shard: int
    attempt: str
    parts: tuple[Part, ...]

    @property
    def num_rows(self) -> int:
        """Rows in the shard."""
        return sum(part.num_rows for part in self.parts)

    @property
    def num_ok(self) -> int:
        """Rows that are not quarantined."""
        return sum(part.num_ok for part in self.parts)

    @property
    def totals(self) -> Totals:
        """Integer sums over the shard's ok rows."""
        return add_totals([part.totals for part in self.parts])

    def to_json(self) -> bytes:
        """Return the file's content."""
        return json.dumps(asdict(self), sort_keys=True, indent=1).encode()

    @staticmethod
    def from_json(data: bytes) -> "Seal":
        """Return the seal that `to_json` wrote."""
        document = json.loads(data)
        parts = tuple(Part(**{**part, "units": tuple(part["units"])}) for part in document["parts"])
        return Seal(**{**document, "parts": parts})


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a table is: rows that are written (sealed or not yet), and how many of them are quarantined."""

    planned: int
    done: int
    quarantined: int
    resumed: int


class Committer:
    """Collects the messages of one driver and seals a shard as soon as all its units are there."""

    def __init__(self, plan: Plan, max_quarantined_fraction: float) -> None:
        """Read the seals that are already there.

        Raises:
            QuarantineLimitError: More of their rows are quarantined than the job allows.
        """
        self._plan = plan
        self._max_quarantined_fraction = max_quarantined_fraction
        self._parts: dict[int, list[Part]] = {}
        self._done = 0
        self._errors: Counter[str] = Counter()
        self.seals = read_seals(plan)
        for seal in self.seals.values():
            self._count(seal.parts)
        self._resumed = self._done
        self._check_quarantine()

    def pending(self) -> list[Unit]:
        """Return the units of every shard that has no seal, in plan order."""
        shards = (shard for shard in range(self._plan.num_shards) if shard not in self.seals)
        return [unit for shard in shards for unit in self._plan.units(shard)]

    def accept(self, part: Part) -> None:
        """Take one message, and seal its shard if that was the last one missing.

        A message for a sealed shard, or for units that another message already covers, is left alone: its
        part becomes an orphan, which no reader sees.

        Raises:
            QuarantineLimitError: More rows are quarantined than the job allows.
        """
        parts = self._parts.setdefault(part.shard, [])
        covered = {index for other in parts for index in other.units}
        if part.shard in self.seals or covered & set(part.units):
            return
        parts.append(part)
        self._count([part])
        self._check_quarantine()
        if len(covered) + len(part.units) == len(self._plan.units(part.shard)):
            parts.sort(key=lambda item: item.units)
            self.seals[part.shard] = write_seal(self._plan, part.shard, self._parts.pop(part.shard))

    def progress(self) -> Progress:
        """Return how far the table is."""
        quarantined = self._errors.total()
        return Progress(planned=self._plan.num_rows, done=self._done, quarantined=quarantined, resumed=self._resumed)

    def _count(self, parts: Sequence[Part]) -> None:
        for part in parts:
            self._done += part.num_rows
            self._errors.update(part.errors)

    def _check_quarantine(self) -> None:
        quarantined = self._errors.total()
        if quarantined and quarantined / self._plan.num_rows > self._max_quarantined_fraction:
            found = ", ".join(f"{code} {count}" for code, count in self._errors.most_common())
            raise QuarantineLimitError(
                f"data.max_quarantined_fraction: {quarantined} of {self._plan.num_rows} rows cannot be used ({found}), "
                f"more than the share of {self._max_quarantined_fraction:g} that is allowed; nothing was published; "
                "repair the input or raise it"
            )


def fill(
    plan: Plan,
    produce: Callable[[Sequence[Unit]], Iterable[Part]],
    *,
    max_quarantined_fraction: float,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> tuple[Success, bool]:
    """Bring a table to its published end from wherever it is; safe to repeat, safe to run twice at once.

    Args:
        plan: The stored plan.
        produce: Does the work: given units, yields a message for each part it wrote, in any order.
        max_quarantined_fraction: Share of planned rows that may be quarantined.
        on_progress: Called on the driver after each message.

    Returns:
        The published summary, and whether it was already there before this call.

    Raises:
        QuarantineLimitError: More rows are quarantined than the job allows; nothing is published.
        TableError: ``produce`` ended with units missing; call again to go on.
    """
    done = read_success(plan.uri)
    if done is not None:
        return done, True
    committer = Committer(plan, max_quarantined_fraction)
    on_progress(committer.progress())
    pending = committer.pending()
    if pending:
        for part in produce(pending):
            committer.accept(part)
            on_progress(committer.progress())
    missing = committer.pending()
    if missing:
        raise TableError(f"{plan.uri}: the job ended with {len(missing)} units missing; run the same command again")
    return publish(plan, [committer.seals[shard].parts for shard in range(plan.num_shards)]), False


def read_seals(plan: Plan) -> dict[int, Seal]:
    """Return every seal of a plan by shard.

    Raises:
        TableError: A seal belongs to another plan.
    """
    try:
        uris = [item.uri for item in storage.list_objects(f"{plan.uri}/_seals")]
    except NotFoundError:
        return {}
    with ThreadPoolExecutor(_READERS) as pool:
        seals = [Seal.from_json(data) for data in pool.map(storage.read_bytes, uris)]
    strangers = [seal.shard for seal in seals if seal.run_id != plan.run_id]
    if strangers:
        raise TableError(f"{plan.uri}/_seals: shard {strangers[0]} was sealed by another plan; choose another output")
    return {seal.shard: seal for seal in seals}


def write_seal(plan: Plan, shard: int, parts: Sequence[Part]) -> Seal:
    """Seal a shard with these parts, unless another driver was first; return the seal that counts."""
    seal = Seal(run_id=plan.run_id, shard=shard, attempt=uuid.uuid4().hex, parts=tuple(parts))
    uri = f"{plan.uri}/_seals/{shard:06d}.json"
    try:
        storage.create(uri, seal.to_json())
    except ExistsError:
        return Seal.from_json(storage.read_bytes(uri))
    return seal
