"""What training meets on its way: losses without a number, data that is damaged."""

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from ray.train import ControllerError

from unet_ray import prepare, runtime
from unet_ray.checkpoint import find_checkpoint, list_checkpoints
from unet_ray.config import Config
from unet_ray.errors import DivergedError, StorageError
from unet_ray.history import read_history
from unet_ray.predict.run import PredictResult
from unet_ray.table.read import open_table
from unet_ray.train import run as train

pytestmark = pytest.mark.usefixtures("ray_cluster")

HUGE = "3e38"  # times two pixels it overflows, and so does the loss of every batch that has the class


@pytest.fixture
def dataset(finished: tuple[Config, PredictResult]) -> str:
    return finished[0].dataset_uri


def end_of(config: Config) -> BaseException | None:
    """Return the error of ours that ended a run at once: a worker that is not replaced any more raises another."""
    with pytest.raises(ControllerError) as raised:
        train.run(config)
    return runtime.our_error(raised.value)


def test_steps_without_a_finite_gradient_are_skipped_and_counted(
    make_config: Callable[..., Config], dataset: str
) -> None:
    rare = f"[1, 1, 1, 1, 1, {HUGE}, 1, 1]"  # a third of the frames has poles
    config = make_config(
        data__dataset=dataset, loss__class_weights=rare, train__batch_size="1", train__epochs="2", optim__lr="1e-4"
    )
    result = train.run(config)
    rows = read_history(config.train_uri)
    skipped = [row["skipped_steps"] for row in rows]
    assert skipped[0] == 0
    assert all(0 < count < 21 for count in skipped[1:])
    assert result.skipped_steps == sum(skipped)
    assert all(row["train_loss"] is not None and row["train_loss"] < 100 for row in rows[1:])
    model = find_checkpoint(config.train_uri, "last").load_model()
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())


def test_ten_bad_steps_in_a_row_end_the_run_once_with_the_rows_named_and_nothing_bad_saved(
    make_config: Callable[..., Config], dataset: str
) -> None:
    config = make_config(
        data__dataset=dataset,
        loss__class_weights=f"[{', '.join([HUGE] * 8)}]",
        train__epochs="9",
        scaling__num_workers="2",
    )
    error = end_of(config)
    assert isinstance(error, DivergedError)
    said = str(error)
    assert said.startswith("step 10 (epoch 4): no finite loss or gradient in 10 steps in a row; lower optim.lr"), said
    named = said.rpartition("images: ")[2].split(", ")
    known = {row["image_id"]: row["split"] for row in open_table(dataset).read(["image_id", "split"]).to_pylist()}
    assert len(named) == 8
    assert {known[image_id] for image_id in named} == {"train"}
    infos = list_checkpoints(config.train_uri)
    assert infos[-1].epoch == 3
    assert len({info.model_sha256 for info in infos}) == 1
    assert [row["skipped_steps"] for row in read_history(config.train_uri)] == [0, 3, 3, 3]
    assert len(list(Path(f"{config.train_uri}/_ray").iterdir())) == 1


def test_an_error_of_ours_in_a_task_of_a_worker_ends_the_run_at_once(make_config: Callable[..., Config]) -> None:
    config = make_config(train__max_failures="3")
    prepare.run(config)
    for uri in open_table(config.dataset_uri).part_uris():
        data = bytearray(Path(uri).read_bytes())
        group = pq.read_metadata(uri).row_group(0)
        columns = {group.column(number).path_in_schema: group.column(number) for number in range(group.num_columns)}
        data[columns["image"].data_page_offset + 200] ^= 1
        Path(uri).write_bytes(data)
    error = end_of(config)
    assert isinstance(error, StorageError)
    assert str(error).startswith(f"could not read {config.dataset_uri}/data/")
    assert list_checkpoints(config.train_uri) == []


def test_two_workers_validate_together_when_there_is_work_for_one(
    make_config: Callable[..., Config], dataset: str
) -> None:
    config = make_config(data__dataset=dataset, predict__batch_size="8", scaling__num_workers="2", train__epochs="1")
    train.run(config)
    counts = [sum(row["confusion"]) for row in read_history(config.train_uri)]
    assert counts == [7 * 48 * 64] * 2
