"""Seals: one create-only file per shard that says which parts count for it, and what their rows add up to."""

import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field

from unet_ray import storage
from unet_ray.documents import pack_document, unpack_document
from unet_ray.errors import ExistsError, NotFoundError, TableError
from unet_ray.table.parts import Part, Totals, add_totals
from unet_ray.table.plan import Plan

_READERS = 32
_READ_AT_ONCE = 1024  # bounds what has been read and not yet added up


@dataclass(frozen=True, kw_only=True, slots=True)
class SealedPart:
    """A part that counts: its key under the table's URI, its rows, and the bytes it must still have."""

    path: str
    num_rows: int
    num_ok: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Seal:
    """What counts for a shard; ``errors`` are its quarantined rows by code, ``totals`` sums over its ok rows.

    ``attempt`` is unique: it tells our seal from another driver's.
    """

    run_id: str
    shard: int
    attempt: str
    parts: tuple[SealedPart, ...]
    errors: Mapping[str, int]
    totals: Totals

    def to_json(self) -> bytes:
        """Return the file's content."""
        return pack_document(asdict(self))

    @staticmethod
    def from_json(data: bytes, uri: str) -> "Seal":
        """Return the seal that `to_json` wrote.

        Raises:
            TableError: The bytes are not those that were written.
        """
        document = unpack_document(data, uri, TableError)
        return Seal(**{**document, "parts": tuple(SealedPart(**part) for part in document["parts"])})


@dataclass(kw_only=True, slots=True)
class Ledger:
    """All seals of a table so far, added up; grows with the number of parts, not of rows."""

    shards: dict[int, tuple[SealedPart, ...]] = field(default_factory=dict)
    num_rows: int = 0
    num_ok: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    totals: Totals = field(default_factory=dict)

    def add(self, seal: Seal) -> None:
        """Enter the seal of a shard that has none yet."""
        self.shards[seal.shard] = seal.parts
        self.num_rows += sum(part.num_rows for part in seal.parts)
        self.num_ok += sum(part.num_ok for part in seal.parts)
        self.errors.update(seal.errors)
        self.totals = add_totals([self.totals, seal.totals])


def seal_shard(plan: Plan, shard: int, parts: Sequence[Part]) -> Seal:
    """Seal a shard with these parts, unless another driver was first; return the seal that counts.

    Safe to repeat: where the reply to an earlier call was lost, its seal is the one that is found.
    """
    errors: Counter[str] = Counter()
    for part in parts:
        errors.update(part.errors)
    seal = Seal(
        run_id=plan.run_id,
        shard=shard,
        attempt=uuid.uuid4().hex,
        parts=tuple(
            SealedPart(
                path=part.path,
                num_rows=part.num_rows,
                num_ok=part.num_ok,
                size_bytes=part.size_bytes,
                sha256=part.sha256,
            )
            for part in parts
        ),
        errors=dict(sorted(errors.items())),
        totals=add_totals([part.totals for part in parts]),
    )
    uri = f"{plan.uri}/_seals/{shard:06d}.json"
    try:
        storage.create(uri, seal.to_json(), exclusive=plan.exclusive)
    except ExistsError:
        return _read_seal(plan, uri)
    return seal


def read_ledger(plan: Plan) -> Ledger:
    """Return what all seals of a plan add up to.

    Raises:
        TableError: A seal is damaged, or belongs to another plan.
    """
    ledger = Ledger()
    try:
        uris = [item.uri for item in storage.list_objects(f"{plan.uri}/_seals")]
    except NotFoundError:
        return ledger
    with ThreadPoolExecutor(_READERS) as pool:
        for start in range(0, len(uris), _READ_AT_ONCE):
            for seal in pool.map(lambda uri: _read_seal(plan, uri), uris[start : start + _READ_AT_ONCE]):
                ledger.add(seal)
    return ledger


def _read_seal(plan: Plan, uri: str) -> Seal:
    seal = Seal.from_json(storage.read_bytes(uri), uri)
    if seal.run_id != plan.run_id:
        raise TableError(f"{uri}: this shard was sealed by another plan; choose another output")
    return seal
