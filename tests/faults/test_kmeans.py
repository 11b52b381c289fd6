"""Drivers of K-Means that die: centroids are fitted once, whatever becomes of the masks they were fitted on."""

import signal
from collections.abc import Iterator

import cv2
import numpy as np

from tests.faults.memory_s3 import Call, Memory
from tests.faults.published import read_published
from tests.faults.store import Kill, Rule
from tests.faults.trials import NUM_PAIRS, TABLES, Job, WatchedStore, experiment
from unet_ray.datasets.synthetic import PALETTE, render_frame

TABLE = TABLES["prepare"]
PLAN = f"{TABLE}/_PLAN.json"
CONFIG = experiment(
    labels__classes="[]", labels__scheme="kmeans", labels__clusters="3", data__max_quarantined_fraction="1"
)


def draw_input(shade: int = 1) -> Iterator[Call]:
    """Yield the writes of frames and of masks of colours, which are darker by a factor."""
    for frame in range(NUM_PAIRS):
        image, ids = render_frame(0, 0, frame, 48, 64)
        for folder, pixels in (("images", image), ("masks", np.array(PALETTE, np.uint8)[ids] // shade)):
            key, data = f"in/{folder}/{frame}.png", cv2.imencode(".png", pixels)[1].tobytes()
            yield Call(method="PUT", bucket="bucket", key=key, query={}, headers={}, body=data)


def begin() -> WatchedStore:
    store = WatchedStore(TABLE, Memory({"bucket": {}}))
    for call in draw_input():
        store.answer(call)
    return store


def test_a_killed_job_goes_on_with_its_centroids_though_the_masks_are_others_now() -> None:
    with begin() as store:
        job = Job("prepare", store, CONFIG)
        store.rules = [Rule(act=Kill(job.kill), operation="put", key="_seals/000001")]
        assert job.run() == -signal.SIGKILL
        store.rules = ()
        begun = store.objects[PLAN]
        for call in draw_input(shade=3):
            store.answer(call)
        assert Job("prepare", store, CONFIG).run() == 0
        assert store.objects[PLAN] == begun
        success, rows = read_published(store.objects, TABLE)
    assert success["errors"] == {"changed_mask": 2}
    assert rows["status"].to_pylist() == ["ok", "ok", "quarantined", "quarantined"]


def test_a_job_killed_before_its_plan_was_there_fits_the_same_centroids() -> None:
    plans = []
    for kills in (False, True):
        with begin() as store:
            job = Job("prepare", store, CONFIG)
            if kills:
                store.rules = [Rule(act=Kill(job.kill), operation="put", key="_PLAN.json")]
                assert job.run() == -signal.SIGKILL
                store.rules = ()
            assert job.run() == 0, job.said
            plans.append(store.objects[PLAN])
    assert plans[0] == plans[1]
