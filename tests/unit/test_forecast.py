from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.tiny_dataset import CLASSES
from unet_ray.checkpoint import ModelCard, save_checkpoint
from unet_ray.config import Config, NodeType, ScalingSection
from unet_ray.config_file import parse_config
from unet_ray.config_training import ModelSection, OptimSection
from unet_ray.errors import ConfigError, DatasetError
from unet_ray.predict import forecast
from unet_ray.predict.forecast import Stage
from unet_ray.predict.plan import draw_units
from unet_ray.train.optimizers import make_optimizer

STAGES = {
    "load": Stage(seconds=0.008, cpu_seconds=0.004),
    "infer": Stage(seconds=0.020, cpu_seconds=0.036),
    "describe": Stage(seconds=0.0015, cpu_seconds=0.0015),
    "write": Stage(seconds=0.0005, cpu_seconds=0.0005),
}
HOUR_OF_FRAMES = 3_600_000


def tell(device: forecast.Device, **node: Any) -> forecast.NodeForecast:
    return forecast.forecast(STAGES, device, NodeType(**node), ScalingSection(), HOUR_OF_FRAMES)


def test_cores_do_all_the_work_of_a_node_without_gpus() -> None:
    found = tell("cpu", cpus=16, price=1.5)
    assert found.limit == "cores"
    assert found.frames_per_s == pytest.approx(16 / 0.042)
    assert not found.at_most
    assert found.hours == pytest.approx(1000 / found.frames_per_s)
    assert found.price == pytest.approx(1.5 * found.hours)
    assert found.price_per_million == pytest.approx(found.price / 3.6)


def test_a_store_that_is_waited_for_limits_what_data_tasks_bring() -> None:
    slow = {**STAGES, "load": Stage(seconds=0.5, cpu_seconds=0.004)}
    found = forecast.forecast(slow, "cpu", NodeType(cpus=16), ScalingSection(), 100)
    assert (found.limit, found.price, found.price_per_million) == ("data tasks", None, None)
    assert found.frames_per_s == pytest.approx(4 / 0.5005)  # a quarter of the CPUs are for data tasks


@pytest.mark.parametrize(("gpus", "limit", "rate"), [(1, "network", 1 / 0.020), (8, "cores", 16 / 0.042)])
def test_a_node_with_gpus_waits_for_them_or_for_its_cores(gpus: int, limit: str, rate: float) -> None:
    found = tell("gpu", cpus=16, gpus=gpus)
    assert (found.limit, found.at_most) == (limit, False)
    assert found.frames_per_s == pytest.approx(rate)


def test_gpus_that_were_not_timed_leave_what_cores_can_feed_them() -> None:
    found = tell("cpu", cpus=8, gpus=1)
    assert (found.limit, found.at_most) == ("data tasks", True)
    assert found.frames_per_s == pytest.approx(4 / 0.0085)


def test_masks_that_take_long_to_count_limit_a_gpu() -> None:
    slow = {**STAGES, "describe": Stage(seconds=0.09, cpu_seconds=0.001)}
    found = forecast.forecast(slow, "gpu", NodeType(cpus=16, gpus=1), ScalingSection(), 100)
    assert found.limit == "counting"
    assert found.frames_per_s == pytest.approx(3 / 0.09)  # of four CPUs, one drives the GPU


def rows_of(number: int) -> Iterator[dict[str, int]]:
    return iter({"row": row} for row in range(number))


@pytest.mark.parametrize("number", [0, 1, 7, 8, 9, 100])
def test_units_are_drawn_whole_and_in_order(number: int) -> None:
    rows, count = draw_units(rows_of(number), 4, 3, seed=1)
    assert count == number
    found = [row["row"] for row in rows]
    assert found == sorted(set(found))
    units = {row // 4 for row in found}
    assert found == [row for unit in sorted(units) for row in range(4 * unit, min(number, 4 * unit + 4))]
    assert len(units) == min(3, -(-number // 4))


def test_every_unit_is_as_likely_as_any_other() -> None:
    drawn = Counter(row["row"] for seed in range(2000) for row in draw_units(rows_of(20), 2, 3, seed)[0])
    assert set(drawn) == set(range(20))
    assert all(abs(count - 2000 * 3 / 10) < 5 * (2000 * 0.3 * 0.7) ** 0.5 for count in drawn.values())


@pytest.fixture
def config(dataset_uri: str, tmp_path: Path) -> Config:
    """A run with the weights of a network that has learnt nothing."""
    document = {
        "run": {"storage": str(tmp_path), "name": "run"}, "data": {"dataset": dataset_uri},
        "predict": {"split": "train", "batch_size": 2}, "plan": {"frames": 5},
    }  # fmt: skip
    config = parse_config(document, {"plan.nodes": "{large: {cpus: 16, price: 2}}"}, "test")
    card = ModelCard(
        class_map=CLASSES, model=ModelSection(width=2, depth=1), mean=(100.0,) * 3, std=(60.0,) * 3, input_size=None,
        dataset_run_id="",
    )  # fmt: skip
    model = card.build()
    optimizer = make_optimizer(model, OptimSection())
    save_checkpoint(
        config.train_uri, card=card, model=model, optimizer=optimizer, step=0, epoch=0, score=None, progress={}
    )
    return config


def test_a_forecast_times_a_sample_and_leaves_nothing_behind(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tmp_path.rglob("*"))
    found = forecast.run(config)
    assert sorted(tmp_path.rglob("*")) == before
    assert (found.frames, found.timed, found.quarantined, found.device) == (11, 6, 0, "cpu")
    assert all(stage.seconds > 0 and stage.cpu_seconds > 0 for stage in found.stages.values())
    assert found.bytes_per_frame > 0
    assert found.cpus_per_gpu is None
    assert list(found.nodes) == ["this machine", "large"]
    assert found.nodes["large"].price == pytest.approx(2 * found.nodes["large"].hours)
    shown = capsys.readouterr().err
    assert "fetch and decode" in shown
    assert "this machine" in shown


def test_bad_frames_are_timed_too_and_nothing_but_bad_ones_is_refused(config: Config, tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.png").write_bytes(b"no image")
    bad = replace(config, predict=replace(config.predict, images=str(folder)))
    with pytest.raises(DatasetError, match=r"predict: none of 4 frames could be segmented: \{'not_an_image': 4\}"):
        forecast.run(bad)


def test_a_node_that_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"plan\.nodes: must be kinds of nodes, each with cpus >= 2"):
        NodeType(cpus=1)
    with pytest.raises(ConfigError, match=r"plan\.frames: must be in 1\.\.100000, got 0"):
        parse_config({"plan": {"frames": 0}}, {}, "test")
