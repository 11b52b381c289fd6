"""What it takes to go on with a job of 10^8 rows of which all shards but one are sealed, measured in a new process."""

import json
import os
import random
import subprocess
import sys
from dataclasses import asdict

from tests.faults.memory_s3 import Call
from tests.faults.store import FaultStore
from unet_ray.documents import pack_document
from unet_ray.schema import PREDICTION_SUMMED, SCHEMA_VERSION
from unet_ray.table.plan import Terms
from unet_ray.table.seals import Seal, SealedPart

NUM_ROWS, SHARD_ROWS, NUM_CLASSES = 10**8, 5000, 11
NUM_SHARDS = NUM_ROWS // SHARD_ROWS
TERMS = Terms(kind="predictions", settings={}, facts={}, summed=PREDICTION_SUMMED, shard_rows=SHARD_ROWS, unit_rows=8)
MEGABYTES = 1 << 20
DECISION = """
import json, re, sys, time
from pathlib import Path
from unet_ray.table.commit import Committer, QuarantineLimits
from unet_ray.table.plan import Terms, begun_plan

def peak():  # ru_maxrss would start with that of the parent
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

imported, started = peak(), time.monotonic()
plan = begun_plan(sys.argv[1], Terms(**json.loads(sys.argv[2])))
committer = Committer(plan, QuarantineLimits(fraction=0.2))
pending = committer.pending()
print(json.dumps({
    "seconds": time.monotonic() - started, "peak": peak(), "imported": imported, "pending": len(pending),
    "first": [pending[0].shard, pending[0].index], "confusion": committer.ledger.totals["confusion"][0],
    "quarantined": committer.progress().quarantined,
}))
"""


def test_the_driver_of_a_hundred_million_rows_knows_in_seconds_what_is_left(store: FaultStore) -> None:
    open_shard, rng = 12_345, random.Random(0)
    content = {f"out/_seals/{shard:06d}.json": seal(shard, rng).to_json() for shard in range(NUM_SHARDS)}
    del content[f"out/_seals/{open_shard:06d}.json"]
    memory = store.snapshot()
    for key, data in {"out/_PLAN.json": plan_document(), **content}.items():
        memory.answer(Call(method="PUT", bucket="bucket", key=key, query={}, headers={}, body=data))
    store.restore(memory)
    done = subprocess.run(
        [sys.executable, "-c", DECISION, "s3://bucket/out", json.dumps(asdict(TERMS))],
        capture_output=True, text=True, check=True, env={**os.environ, **store.environment},
    )  # fmt: skip
    found = json.loads(done.stdout)
    print(found)  # noqa: T201
    assert (found["pending"], found["first"]) == (625, [open_shard, 0])
    assert found["confusion"] == (NUM_SHARDS - 1) * 10**9
    assert found["quarantined"] == NUM_SHARDS - 1
    assert found["peak"] < 500 * MEGABYTES


def plan_document() -> bytes:
    names = {"format": "unet-ray table", "schema_version": SCHEMA_VERSION, "run_id": "0" * 16, "notes": {}}
    return pack_document(asdict(TERMS) | names | {"num_rows": NUM_ROWS, "rows_sha256": "", "parts": []})


def seal(shard: int, rng: random.Random) -> Seal:
    """Return the seal of a shard with one bad row, of sizes as they are in life."""
    part = SealedPart(
        path=f"data/{shard:06d}/{rng.getrandbits(48):012x}-{shard * SHARD_ROWS:09d}.parquet",
        num_rows=SHARD_ROWS,
        num_ok=SHARD_ROWS - 1,
        size_bytes=97_000_000,
        sha256=f"{rng.getrandbits(256):064x}",
    )
    totals = {
        "class_pixels": [5 * 10**8] * NUM_CLASSES,
        "ignored_pixels": [10**7],
        "confusion": [10**9] * NUM_CLASSES**2,
    }
    return Seal(
        run_id="0" * 16, shard=shard, attempt=f"{rng.getrandbits(128):032x}", parts=(part,),
        errors={"truncated": 1}, totals=totals,
    )  # fmt: skip
