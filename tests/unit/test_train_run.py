from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.unit.tiny_run import NUM_TRAIN, Killed, Sent, make_config, make_job, run, timeless
from unet_ray.checkpoint import Checkpoint, find_checkpoint, list_checkpoints
from unet_ray.config_training import MetricName, OptimizerName, OptimSection
from unet_ray.errors import ConfigError, DivergedError, ResourceError
from unet_ray.history import read_history
from unet_ray.train import loop
from unet_ray.train.run import check_batch
from unet_ray.train.schedule import Item, Schedule

pytestmark = pytest.mark.usefixtures("one_thread")

VARIANTS: dict[str, tuple[OptimSection, dict[str, Any], str]] = {
    "default": (OptimSection(), {}, "fp32"),
    "bf16": (OptimSection(), {}, "bf16"),
    "fp16 with an average": (OptimSection(ema_decay=0.9), {}, "fp16"),
    "sgd, accumulated, averaged": (OptimSection(kind="sgd", ema_decay=0.9), {"accumulate": 2, "batch_size": 2}, "fp32"),
    "rmsprop": (OptimSection(kind="rmsprop", lr=1e-4, schedule="one_cycle"), {}, "fp32"),
}


def last(job: loop.Job) -> Checkpoint:
    return find_checkpoint(job.config.train_uri, "last")


def assert_same(found: Checkpoint, wanted: Checkpoint) -> None:
    for name in ("weights", "average", "optimizer"):
        one, two = getattr(found, name), getattr(wanted, name)
        assert one.keys() == two.keys()
        assert [key for key in one if not torch.equal(one[key], two[key])] == [], name
    assert found.progress["loss_scale"] == wanted.progress["loss_scale"]
    assert found.info.score == wanted.info.score


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_run_that_is_killed_anywhere_ends_as_one_that_nobody_disturbed(variant: str, tmp_path: Path) -> None:
    optim, options, precision = VARIANTS[variant]
    calm = make_job(make_config(tmp_path / "calm", optim, checkpoint_every_steps=2, **options), precision)
    broken = make_job(make_config(tmp_path / "broken", optim, checkpoint_every_steps=2, **options), precision)
    nan = {Item("train", 1, 1), Item("train", 2, 2)}  # two of the steps are skipped
    wanted = run(calm, bad=nan.__contains__)
    saved = []
    for epoch, number in ((0, 0), (1, 3), (2, 1), (2, 4)):
        kind = "train" if epoch else "eval"
        with pytest.raises(Killed):
            run(broken, bad=nan.__contains__, killed_at=Item(kind, epoch, number).__eq__)
        saved.append([info.step for info in list_checkpoints(broken.config.train_uri)][-2:])
    found = run(broken, bad=nan.__contains__)
    if options.get("accumulate", 1) == 1:
        assert saved == [[], [0, 2], [5, 6], [6, 8]]
    assert timeless(found) == timeless(wanted)
    assert timeless(read_history(broken.config.train_uri)) == timeless(wanted)
    assert sum(row["skipped_steps"] for row in found) == 2
    assert_same(last(broken), last(calm))


def test_a_run_that_pauses_goes_on_to_the_weights_of_one_that_did_not(tmp_path: Path) -> None:
    calm, paused = (make_job(make_config(tmp_path / name)) for name in ("calm", "paused"))
    wanted = run(calm)
    first = run(replace(paused, until_epoch=1))
    assert [row["epoch"] for row in first] == [0, 1]
    assert not last(paused).progress["finished"]
    assert timeless(run(paused)) == timeless(wanted)
    assert_same(last(paused), last(calm))


def test_checkpoints_within_epochs_change_nothing_but_where_a_run_goes_on(tmp_path: Path) -> None:
    often = make_job(make_config(tmp_path / "often", checkpoint_every_steps=1))
    never = make_job(make_config(tmp_path / "never"))
    histories = [timeless(run(often)), timeless(run(never))]
    assert histories[0] == histories[1]
    assert last(often).info.model_sha256 == last(never).info.model_sha256
    best = find_checkpoint(often.config.train_uri, "best").info
    assert best.score == max(row["miou"] for row in histories[0])


def test_a_checkpoint_on_notice_lets_another_worker_go_on_to_the_bit(tmp_path: Path) -> None:
    calm, noticed = (make_job(make_config(tmp_path / name)) for name in ("calm", "noticed"))
    wanted = run(calm)
    notices = iter([False, True, False])
    with pytest.raises(Killed):
        run(noticed, must_save=lambda: next(notices), killed_at=Item("train", 1, 3).__eq__)
    assert {"leaving": 2} in noticed.progress
    assert (last(noticed).info.step, last(noticed).info.score) == (2, None)
    assert timeless(run(noticed)) == timeless(wanted)
    assert_same(last(noticed), last(calm))


def test_what_is_validated_stored_and_predicts_is_the_average(tmp_path: Path) -> None:
    averaged = make_job(make_config(tmp_path / "averaged", OptimSection(ema_decay=0.999)))
    plain = make_job(make_config(tmp_path / "plain"))
    histories = [run(averaged), run(plain)]
    found, wanted = last(averaged), last(plain)
    assert set(found.info.files) - set(wanted.info.files) == {"average.safetensors"}
    assert all(torch.equal(found.weights[name], wanted.weights[name]) for name in wanted.weights)  # as without it
    model = found.load_model().state_dict()
    assert all(torch.equal(model[name], found.average[name]) for name in model)
    assert not torch.equal(model["head.weight"], found.weights["head.weight"])
    assert found.info.model_sha256 == found.info.files["average.safetensors"]
    assert [row["train_loss"] for row in histories[0]] == [row["train_loss"] for row in histories[1]]
    assert histories[0][0]["confusion"] == histories[1][0]["confusion"]
    assert histories[0][2]["confusion"] != histories[1][2]["confusion"]
    light = find_checkpoint(averaged.config.train_uri, "last", optimizer=False)
    assert (light.weights, light.optimizer) == ({}, {})
    assert torch.equal(light.load_model().state_dict()["head.weight"], model["head.weight"])


@pytest.mark.parametrize(
    ("kind", "lr", "precision"),
    [
        ("adamw", 0.02, "fp32"),
        ("adamw", 0.02, "bf16"),
        ("adamw", 0.02, "fp16"),
        ("adam", 0.02, "fp32"),
        ("sgd", 0.05, "fp16"),
        ("rmsprop", 2e-3, "fp16"),
    ],
)
def test_every_optimizer_and_every_precision_learns(
    kind: OptimizerName, lr: float, precision: str, tmp_path: Path
) -> None:
    history = run(make_job(make_config(tmp_path, OptimSection(kind=kind, lr=lr), epochs=4, eval_every=4), precision))
    assert history[-1]["train_loss"] < 0.85 * history[1]["train_loss"]
    assert history[-1]["skipped_steps"] == 0


@pytest.mark.parametrize("metric", ["miou", "object_miou", "pixel_accuracy", "train_loss"])
def test_the_best_checkpoint_and_the_end_are_by_the_metric_of_the_run(metric: MetricName, tmp_path: Path) -> None:
    job = make_job(make_config(tmp_path, OptimSection(lr=0.3), metric=metric, patience=1, epochs=12))
    history = run(job)
    sign = -1 if metric == "train_loss" else 1
    scores = [sign * row[metric] for row in history if row[metric] is not None]
    assert len(history) < 13
    assert scores[-1] <= max(scores[:-1])
    assert all(score > max(scores[:number]) for number, score in enumerate(scores[:-1]) if number)
    best = find_checkpoint(job.config.train_uri, "best").info
    assert (best.metric, sign * (best.score or 0)) == (metric, max(scores))
    assert last(job).progress["finished"]


def test_an_epoch_tells_where_its_time_went(tmp_path: Path) -> None:
    history = run(make_job(make_config(tmp_path)), wait_s=0.03)
    assert (history[0]["data_wait_s"], history[0]["step_s"], history[0]["samples_per_s"]) == (0, 0, None)
    for row in history[1:]:
        assert row["data_wait_s"] >= 5 * 0.03 - 0.02
        assert row["validation_s"] >= 2 * 0.03 - 0.01
        assert row["seconds"] == pytest.approx(row["data_wait_s"] + row["step_s"] + row["validation_s"], abs=0.03)
        assert row["samples_per_s"] <= 20 / row["data_wait_s"] + 1
        assert 50 < row["peak_memory_mib"] < 20_000
    assert history[2]["peak_memory_mib"] >= history[1]["peak_memory_mib"]


def test_progress_is_sent_with_the_share_of_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "_PROGRESS_EVERY_S", 0.0)
    job = make_job(make_config(tmp_path, epochs=1))
    run(job, wait_s=0.02)
    assert isinstance(job.progress, Sent)
    steps = [message for message in job.progress if "step" in message]
    assert [message["step"] for message in steps] == [1, 2, 3, 4, 5]
    assert all(0 < message["data_wait"] < 1 and message["samples_per_s"] > 0 for message in steps)


def test_of_the_batches_of_a_bad_step_only_the_bad_ones_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rows(item: Item, source: object, schedule: Schedule) -> list[dict[str, str]]:
        return [{"image_id": f"{item.epoch}/{item.number}"}]

    monkeypatch.setattr(loop, "train_rows", rows)
    job = make_job(make_config(tmp_path, batch_size=2, accumulate=2, epochs=9))
    with pytest.raises(DivergedError, match=r"^step 10 \(epoch 2\): no finite loss or gradient in 10 .* images: 2/9$"):
        run(job, bad=lambda item: item.kind == "train" and item.number % 2 == 1)
    assert last(job).info.epoch == 1


def test_a_missing_compiler_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import config

    monkeypatch.setattr(config, "force_disable_caches", True)
    monkeypatch.setattr(config.cpp, "cxx", ("no-such-compiler",))
    rule = "^optim.compile: torch.compile failed; install a C.. compiler where the workers run, or set it to false "
    with pytest.raises(ResourceError, match=rule) as caught:
        run(make_job(make_config(tmp_path, OptimSection(compile=True))))
    assert "no-such-compiler" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_step_of_more_pairs_than_there_are_is_refused(tmp_path: Path) -> None:
    config = make_config(tmp_path, batch_size=3, accumulate=2)
    two = replace(config, scaling=replace(config.scaling, num_workers=2))
    check_batch(config, 6)
    check_batch(two, 12)
    with pytest.raises(
        ConfigError,
        match=r"^train.batch_size: 3 x train.accumulate 2 x scaling.num_workers 2 are 12 pairs a step, "
        r"the training split has 11; lower one of them$",
    ):
        check_batch(two, 11)
    assert NUM_TRAIN > 12
