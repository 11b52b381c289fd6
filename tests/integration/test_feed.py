"""What a train worker is fed by the real Ray Data, over more batches than one execution carries."""

from collections.abc import Iterator

import pytest
import ray
from ray.data import DataContext

from unet_ray.config import Config
from unet_ray.config_input import ImagesSection
from unet_ray.config_training import AugmentSection
from unet_ray.datasets.prepared import index_split, open_dataset
from unet_ray.predict.run import PredictResult
from unet_ray.train.feed import _ITEMS_PER_EXECUTION, Source, feed, make_crop, train_rows
from unet_ray.train.schedule import Schedule

EPOCHS = 45


@pytest.fixture
def source(finished: tuple[Config, PredictResult]) -> Source:
    dataset = open_dataset(finished[0].dataset_uri)
    return Source(
        train=ray.put(index_split(dataset, "train")), val=ray.put(index_split(dataset, "val")),
        part_uris=tuple(dataset.table.part_uris()), classes=dataset.classes, policy=ImagesSection(), seed=7,
        augment=AugmentSection(), crop=(16, 16), mean=(110.0, 100.0, 90.0), std=(50.0, 60.0, 70.0),
    )  # fmt: skip


@pytest.fixture
def own_settings() -> Iterator[None]:
    """Keep what a train worker sets for Ray Data in its own process from the tests that follow."""
    with DataContext.current(DataContext.get_current().copy()):
        yield


@pytest.mark.usefixtures("own_settings")
def test_executions_follow_each_other_with_every_batch_once(source: Source) -> None:
    schedule = Schedule(
        num_train=21, num_eval=7, batch_size=2, batches_per_step=1, eval_batch_size=7, epochs=EPOCHS, eval_every=1,
        rank=0, world_size=1,
    )  # fmt: skip
    wanted = list(schedule.all_items(1, 3))
    assert len(wanted) > _ITEMS_PER_EXECUTION
    found = []
    for item, rows in feed(source, schedule, 1, 3, 1):
        found.append(item)
        assert rows.num_rows == (2 if item.kind == "train" else 7)
        if item.kind == "train" and item.epoch in (1, EPOCHS):
            crops = [make_crop(row, source, item.epoch) for row in train_rows(item, source, schedule)]
            assert rows.to_pylist() == crops
    assert found == wanted
