import copy
import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.unit.inline_table import keys
from tests.unit.tiny_training import CARD, Training, make_optimizer
from unet_ray import storage
from unet_ray.checkpoint import (
    ModelCard,
    find_checkpoint,
    list_checkpoints,
    load_checkpoint,
    prune_checkpoints,
    restore_optimizer,
    resume_checkpoint,
)
from unet_ray.config_training import ModelSection
from unet_ray.documents import pack_document
from unet_ray.errors import CheckpointError
from unet_ray.model.unet import UNet

pytestmark = pytest.mark.usefixtures("one_thread")

FILES = ["model.safetensors", "optimizer.safetensors", "state.json"]


@pytest.fixture(scope="module")
def trained() -> Training:
    training = Training()
    for _ in range(3):
        training.step()
    return training


@pytest.fixture
def training(trained: Training) -> Training:
    return copy.deepcopy(trained)


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return f"{tmp_path}/run/train"


def flip(path: str, position: float) -> None:
    data = bytearray(Path(path).read_bytes())
    data[int(position * len(data))] ^= 1
    Path(path).write_bytes(data)


def assert_same_weights(model: nn.Module, other: nn.Module) -> None:
    found, wanted = model.state_dict(), other.state_dict()
    assert found.keys() == wanted.keys()
    assert [name for name in found if not torch.equal(found[name], wanted[name])] == []


def test_a_checkpoint_comes_back_as_it_was_saved(training: Training, uri: str) -> None:
    info = training.save(uri, 10, 0.5, history=[{"epoch": 1, "miou": None}], finished=False)
    loaded = load_checkpoint(info)
    assert loaded.card == CARD
    assert loaded.progress == {"history": [{"epoch": 1, "miou": None}], "finished": False}
    assert loaded.info == info == list_checkpoints(uri)[0]
    assert (info.step, info.epoch, info.score) == (10, 1, 0.5)
    assert_same_weights(loaded.load_model(), training.model)


RESNET = ModelSection(kind="resnet18", norm="group", dropout=0.25, deep_supervision=True)


@pytest.mark.parametrize("card", [CARD, replace(CARD, input_size=None, model=RESNET)])
def test_a_card_survives_json(card: ModelCard) -> None:
    assert ModelCard.from_json(json.loads(json.dumps(asdict(card)))) == card


def test_the_optimizer_goes_on_as_if_nothing_had_happened(training: Training, uri: str) -> None:
    info = training.save(uri, 10)
    loaded = load_checkpoint(info)
    resumed = Training()
    resumed.model.load_state_dict(dict(loaded.weights))
    resumed.optimizer = make_optimizer(resumed.model)
    restore_optimizer(resumed.optimizer, loaded.optimizer)
    for _ in range(2):
        training.step()
        resumed.step()
        assert_same_weights(resumed.model, training.model)


def test_the_restored_optimizer_keeps_its_own_learning_rate(training: Training, uri: str) -> None:
    loaded = load_checkpoint(training.save(uri, 10))
    for group in training.optimizer.param_groups:
        group["lr"] = 0.5
    restore_optimizer(training.optimizer, loaded.optimizer)
    assert [group["lr"] for group in training.optimizer.param_groups] == [0.5, 0.5]
    assert [group["weight_decay"] for group in training.optimizer.param_groups] == [0.1, 0.0]


def test_a_checkpoint_before_the_first_step_has_no_moments(uri: str) -> None:
    training = Training()
    loaded = load_checkpoint(training.save(uri, 0))
    restore_optimizer(training.optimizer, loaded.optimizer)
    assert loaded.optimizer == {}
    training.step()


def test_the_manifest_is_written_last(training: Training, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write, names = storage.write, []

    def note(where: str, data: bytes) -> None:
        names.append(storage.name(where))
        write(where, data)

    monkeypatch.setattr(storage, "write", note)
    training.save(uri, 10)
    assert names == [*FILES, "MANIFEST.json"]


def test_a_torn_checkpoint_is_passed_over(training: Training, uri: str) -> None:
    whole, torn = training.save(uri, 10), training.save(uri, 20)
    storage.delete(f"{torn.uri}/MANIFEST.json")
    assert list_checkpoints(uri) == [whole]
    assert find_checkpoint(uri, "last").info == whole
    with pytest.raises(
        CheckpointError, match=rf"{torn.uri}: no checkpoint here \(MANIFEST.json is missing\); it was cut off"
    ):
        find_checkpoint(uri, torn.uri)


@pytest.mark.parametrize("position", [0.0, 0.5, 0.999])
@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_in_any_file_is_found(training: Training, uri: str, name: str, position: float) -> None:
    info = training.save(uri, 10)
    flip(f"{info.uri}/{name}", position)
    for use in (load_checkpoint, lambda info: find_checkpoint(uri, "last"), lambda info: find_checkpoint(uri, "best")):
        with pytest.raises(CheckpointError, match=rf"{info.uri}: {name} is damaged \(sha256 differs from MANIFEST"):
            use(info)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_found(training: Training, uri: str, name: str) -> None:
    info = training.save(uri, 10)
    storage.delete(f"{info.uri}/{name}")
    with pytest.raises(CheckpointError, match=f"{info.uri}: {name} is missing; use another checkpoint"):
        load_checkpoint(info)


@pytest.mark.parametrize("name", [*FILES, "MANIFEST.json"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(training: Training, uri: str, name: str) -> None:
    older, newer = training.save(uri, 10, 0.5), training.save(uri, 20, 0.6)
    flip(f"{newer.uri}/{name}", 0)
    assert find_checkpoint(uri, "last").info == older
    assert find_checkpoint(uri, "best").info == older
    prune_checkpoints(uri)
    assert find_checkpoint(uri, "last").info == older


def test_when_all_are_damaged_the_newest_is_named(training: Training, uri: str) -> None:
    older, newer = training.save(uri, 10), training.save(uri, 20)
    for info in (older, newer):
        flip(f"{info.uri}/state.json", 0.5)
    with pytest.raises(CheckpointError, match=f"{newer.uri}: state.json is damaged"):
        find_checkpoint(uri, "last")


def test_best_and_last_are_told_apart(training: Training, uri: str) -> None:
    scores = {10: 0.4, 20: 0.7, 30: None, 40: 0.7, 50: 0.6, 60: None}
    infos = {step: training.save(uri, step, miou) for step, miou in scores.items()}
    assert find_checkpoint(uri, "last").info == infos[60]
    assert find_checkpoint(uri, "best").info == infos[40]  # of equal ones the last
    assert find_checkpoint(uri, f"{infos[20].uri}/").info == infos[20]
    assert list_checkpoints(uri) == [infos[step] for step in sorted(infos)]


def test_of_training_losses_the_lowest_is_the_best(training: Training, uri: str) -> None:
    infos = [training.save(uri, step, loss, metric="train_loss") for step, loss in [(10, 0.5), (20, 0.2), (30, 0.3)]]
    training.save(uri, 40, None, metric="train_loss")
    assert find_checkpoint(uri, "best").info == infos[1]


def test_averaged_weights_have_a_file_of_their_own_and_are_the_model_that_predicts(
    training: Training, uri: str
) -> None:
    average = copy.deepcopy(training.model)
    training.step()
    info = training.save(uri, 10, average=average)
    assert sorted(info.files) == ["average.safetensors", *FILES]
    loaded = load_checkpoint(info)
    assert_same_weights(loaded.load_model(), average)
    assert info.model_sha256 == info.files["average.safetensors"]
    model = CARD.build()
    model.load_state_dict(dict(loaded.weights))
    assert_same_weights(model, training.model)
    storage.delete(f"{info.uri}/model.safetensors")  # which prediction does not read
    assert_same_weights(load_checkpoint(info, optimizer=False).load_model(), average)
    flip(f"{info.uri}/average.safetensors", 0.5)
    with pytest.raises(CheckpointError, match=rf"{info.uri}: average.safetensors is damaged"):
        load_checkpoint(info, optimizer=False)


def test_averaged_weights_that_are_not_finite_are_refused(training: Training, uri: str) -> None:
    average = copy.deepcopy(training.model)
    next(average.parameters()).data.fill_(float("nan"))
    with pytest.raises(CheckpointError, match=r"step 10: down.0.0.weight holds NaN or Inf"):
        training.save(uri, 10, average=average)
    assert list_checkpoints(uri) == []


def test_without_a_validation_the_best_is_the_last(training: Training, uri: str) -> None:
    training.save(uri, 10)
    newer = training.save(uri, 20)
    assert find_checkpoint(uri, "best").info == newer


def test_there_must_be_a_checkpoint(training: Training, uri: str) -> None:
    assert list_checkpoints(uri) == []
    prune_checkpoints(uri)
    for which in ("best", "last"):
        with pytest.raises(CheckpointError, match=rf"{uri}: no checkpoint here; run `unet-ray train` first"):
            find_checkpoint(uri, which)


def test_pruning_keeps_the_best_and_the_last_two_whole(training: Training, uri: str) -> None:
    infos = [training.save(uri, step, miou) for step, miou in [(10, 0.1), (20, 0.9), (30, 0.3), (40, 0.4), (50, 0.5)]]
    prune_checkpoints(uri)
    kept = [infos[1], *infos[3:]]
    assert list_checkpoints(uri) == kept
    assert [load_checkpoint(info).info for info in kept] == kept
    folders = [storage.name(info.uri) for info in kept]
    assert keys(f"{uri}/checkpoints") == sorted(
        f"{folder}/{name}" for folder in folders for name in [*FILES, "MANIFEST.json"]
    )
    prune_checkpoints(uri)
    assert list_checkpoints(uri) == kept


def test_pruning_that_is_cut_off_anywhere_loses_no_checkpoint_and_is_finished_by_the_next(
    training: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete = storage.delete
    for survived in range(8):
        uri = f"{tmp_path}/{survived}"
        infos = [training.save(uri, step) for step in (10, 20, 30, 40)]
        deleted: list[str] = []

        def die(where: str, survived: int = survived, deleted: list[str] = deleted) -> None:
            if len(deleted) == survived:
                raise InterruptedError
            deleted.append(where)
            delete(where)

        with monkeypatch.context() as patch:
            patch.setattr(storage, "delete", die)
            with pytest.raises(InterruptedError):
                prune_checkpoints(uri)
        assert len(deleted) == survived
        listed = list_checkpoints(uri)
        assert listed[-2:] == infos[-2:]
        assert [load_checkpoint(info).info for info in listed] == listed
        prune_checkpoints(uri)
        assert list_checkpoints(uri) == infos[-2:]
        assert len(keys(f"{uri}/checkpoints")) == 2 * len([*FILES, "MANIFEST.json"])


def test_nothing_sound_is_deleted_before_something_newer_was_read_back(training: Training, uri: str) -> None:
    infos = [training.save(uri, step) for step in (10, 20, 30, 40)]
    for info in infos[2:]:
        flip(f"{info.uri}/model.safetensors", 0.5)
    prune_checkpoints(uri)
    assert list_checkpoints(uri) == infos[1:]
    assert find_checkpoint(uri, "last").info == infos[1]


def test_nothing_is_deleted_when_no_checkpoint_is_sound(training: Training, uri: str) -> None:
    infos = [training.save(uri, step) for step in (10, 20, 30, 40)]
    for info in infos:
        flip(f"{info.uri}/model.safetensors", 0.5)
    with pytest.raises(CheckpointError, match=f"{infos[3].uri}: model.safetensors is damaged"):
        prune_checkpoints(uri)
    assert list_checkpoints(uri) == infos


def test_what_is_left_of_older_attempts_is_collected_and_a_newer_one_is_left_alone(
    training: Training, uri: str
) -> None:
    older, whole, newer = training.save(uri, 10), training.save(uri, 20), training.save(uri, 30)
    for torn in (older, newer):
        storage.delete(f"{torn.uri}/MANIFEST.json")
    prune_checkpoints(uri)
    folders = {key.partition("/")[0] for key in keys(f"{uri}/checkpoints")}
    assert folders == {storage.name(whole.uri), storage.name(newer.uri)}


def test_training_goes_on_from_the_last_sound_checkpoint_or_starts_anew_when_there_never_was_one(
    training: Training, uri: str
) -> None:
    assert resume_checkpoint(uri) is None
    torn = training.save(uri, 10)
    storage.delete(f"{torn.uri}/MANIFEST.json")
    assert resume_checkpoint(uri) is None
    whole = training.save(uri, 20)
    resumed = resume_checkpoint(uri)
    assert resumed is not None
    assert resumed.info == whole
    flip(f"{whole.uri}/optimizer.safetensors", 0.5)
    with pytest.raises(CheckpointError, match=f"{whole.uri}: optimizer.safetensors is damaged"):
        resume_checkpoint(uri)
    flip(f"{whole.uri}/MANIFEST.json", 0.5)
    with pytest.raises(CheckpointError, match=f"{uri}: no checkpoint here is sound; restore one, or begin a run of"):
        resume_checkpoint(uri)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["down.0.0.weight", "merge.0.4.running_var"])
def test_weights_that_are_not_finite_are_refused(training: Training, uri: str, name: str, bad: float) -> None:
    tensor = training.model.state_dict()[name]
    tensor[(0,) * tensor.ndim] = bad
    with pytest.raises(CheckpointError, match=f"step 10: {name} holds NaN or Inf; lower optim.lr and start again from"):
        training.save(uri, 10)
    assert list_checkpoints(uri) == []
    assert not Path(uri).exists()


def test_weights_of_another_architecture_are_refused(training: Training, uri: str) -> None:
    training.model = UNet(num_classes=3, width=4, depth=1)
    info = training.save(uri, 10)
    with pytest.raises(CheckpointError, match=f"{info.uri}: the weights do not fit the card: size mismatch"):
        load_checkpoint(info).load_model()


@pytest.mark.parametrize("content", [b"[]", b"{}", b"{", b"\xff"])
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    storage.create(f"{tmp_path}/MANIFEST.json", content)
    with pytest.raises(CheckpointError, match=rf"{tmp_path}/MANIFEST.json: not "):
        find_checkpoint("anywhere", str(tmp_path))


def test_a_manifest_that_names_a_file_elsewhere_is_refused(training: Training, uri: str) -> None:
    info = training.save(uri, 10)
    document = json.loads(storage.read_bytes(f"{info.uri}/MANIFEST.json"))
    del document["sha256"]
    document["files"]["../../../precious"] = "0123"
    storage.write(f"{info.uri}/MANIFEST.json", pack_document(document))
    with pytest.raises(CheckpointError, match="not a manifest of a checkpoint: it lists a file outside its folder"):
        find_checkpoint(uri, info.uri)
    assert list_checkpoints(uri) == []  # so nothing of it is ever deleted


def test_two_attempts_at_one_step_do_not_meet(training: Training, uri: str) -> None:
    first, second = training.save(uri, 10), training.save(uri, 10)
    assert first.uri != second.uri
    assert first.model_sha256 == second.model_sha256
