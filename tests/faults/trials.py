"""Trials: a stage in a process of its own, over a store of its own that is watched, against a run nobody disturbed."""

import multiprocessing
import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import pyarrow as pa

from tests.faults.inline import run_stage
from tests.faults.memory_s3 import Call, Memory, Reply
from tests.faults.published import read_published, seen_too_soon
from tests.faults.store import FaultStore
from unet_ray.config import Config
from unet_ray.config_file import parse_config
from unet_ray.datasets.synthetic import render_frame

Stage = Literal["prepare", "predict"]

TABLES: Mapping[Stage, str] = {"prepare": "bucket/runs/run/dataset", "predict": "bucket/runs/run/predictions"}
NUM_PAIRS = 4
DEADLINE_S = 600
ERROR = 2
"""Exit code of a job that ended with an error of ours."""

_UNIQUE = ("manifest_sha256", "sha256")  # parts have names of their own in every run

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["__main__", "tests.faults.inline"])


def experiment(**overrides: str) -> Config:
    """Return the configuration of all trials: two shards, units smaller than a shard, one bad file among four."""
    document: dict[str, Any] = {
        "run": {"storage": "s3://bucket/runs", "name": "run"},
        "data": {"root": "s3://bucket/in", "shard_rows": 2, "val_fraction": 0, "max_quarantined_fraction": 0.5},
        "labels": {"classes": [str(class_id) for class_id in range(8)]},
        "model": {"width": 2, "depth": 1},
        "predict": {"split": "train", "batch_size": 1, "shard_rows": 2},
    }
    return parse_config(document, {key.replace("__", "."): value for key, value in overrides.items()}, "trial")


class WatchedStore(FaultStore):
    """A store in which every state is looked at as a reader of one table would; ``seen`` is what it saw too soon."""

    def __init__(self, table: str, memory: Memory) -> None:
        super().__init__()
        self.restore(memory)
        self.watch(table)

    def watch(self, table: str) -> None:
        """Look at this table from now on; forget what was seen of others."""
        self._table = table
        self.seen: set[str] = set()

    def _apply(self, call: Call) -> Reply:
        reply = super()._apply(call)
        if call.method != "GET" and (seen := seen_too_soon(self.objects, self._table)):
            self.seen.add(seen)
        return reply


class Job:
    """A stage over a store, in a process that can be killed."""

    def __init__(self, stage: str, store: FaultStore, config: Config | None = None) -> None:
        self._arguments = (stage, config or experiment(), store.environment)
        self._process: Any = None
        self.said = ""

    def start(self) -> None:
        self._ear, mouth = _processes.Pipe(duplex=False)
        self._process = _processes.Process(target=run_stage, args=(*self._arguments, mouth), daemon=True)
        self._process.start()
        mouth.close()

    def wait(self) -> int:
        """Wait for its end, whatever that is; return the exit code, and keep the error in ``said``.

        A process that ends without a word was killed. The exit code itself is not asked for: `multiprocessing` says
        255 where its fork server has lost it.
        """
        assert self._ear.poll(DEADLINE_S), "the job hangs"
        code = -signal.SIGKILL
        with suppress(EOFError):
            code, self.said = self._ear.recv()
        self._ear.close()
        assert code in (0, ERROR, -signal.SIGKILL), f"the job crashed: {self.said}"
        return int(code)

    def run(self) -> int:
        self.start()
        return self.wait()

    def kill(self) -> None:
        while self._process.pid is None:
            time.sleep(0.001)
        os.kill(self._process.pid, signal.SIGKILL)


@dataclass(frozen=True, kw_only=True)
class Undisturbed:
    """A run nobody disturbed: what was there before it, the number of its requests, and the table it made."""

    stage: Stage
    before: Memory
    requests: int
    success: Mapping[str, Any]
    rows: pa.Table


def run_undisturbed() -> dict[Stage, Undisturbed]:
    """Run both stages once; for `predict`, with a network that has learnt nothing."""
    runs: dict[Stage, Undisturbed] = {}
    with FaultStore() as store:
        store.restore(draw_input())
        for stage, table in TABLES.items():
            before = store.snapshot()
            store.clear_log()
            assert Job(stage, store).run() == 0
            requests = len(store.log)
            success, rows = read_published(store.objects, table)
            assert rows["row_id"].to_pylist() == list(range(success["num_rows"]))
            runs[stage] = Undisturbed(stage=stage, before=before, requests=requests, success=success, rows=rows)
            if stage == "prepare":
                assert (success["num_rows"], success["errors"]) == (NUM_PAIRS, {"truncated": 1})
                assert Job("checkpoint", store).run() == 0
    return runs


def draw_input() -> Memory:
    """Return a store with pairs of small street scenes, one of whose images is cut short."""
    memory = Memory({"bucket": {}})
    for frame in range(NUM_PAIRS):
        image, mask = render_frame(0, 0, frame, 48, 64)
        for folder, pixels in (("images", image), ("masks", mask)):
            data = cv2.imencode(".png", pixels)[1].tobytes()
            cut = data[:-40] if (folder, frame) == ("images", 2) else data
            key = f"in/{folder}/{frame}.png"
            memory.answer(Call(method="PUT", bucket="bucket", key=key, query={}, headers={}, body=cut))
    return memory


def compare(store: WatchedStore, clean: Undisturbed) -> dict[str, int]:
    """Count what differs between the table in a store and that of the undisturbed run."""
    success, rows = read_published(store.objects, TABLES[clean.stage])
    found, planned = rows["row_id"].to_pylist(), set(clean.rows["row_id"].to_pylist())
    totals_differ = any(success[name] != value for name, value in clean.success.items() if name not in _UNIQUE)
    return {
        "lost": len(planned - set(found)),
        "duplicated": len(found) - len(set(found)),
        "mismatched": int(totals_differ or not rows.equals(clean.rows)),
        "seen_too_soon": len(store.seen),
    }
