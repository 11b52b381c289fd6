"""Checkpoints: a folder of safetensors and JSON that is whole when its manifest is, and says all prediction needs.

::

    <train>/checkpoints/step-00000920-<attempt>/
        model.safetensors      weights and batch-norm statistics
        average.safetensors    the same of the averaged network, in a run that keeps one
        optimizer.safetensors  moments, by parameter
        state.json             model card, what a validation tells of further frames, position in training, history
        MANIFEST.json          written last: step, score, sha256 of the others and of itself

No pointer is ever overwritten: "last" is the newest folder that verifies, "best" the one with the best score among
them. Both mean the averaged network where there is one: it was validated, and it predicts. Reads and writes through
`storage`; needs no Ray.
"""

import hashlib
import json
import logging
import math
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as pack_tensors
from torch import Tensor, nn

from unet_ray import storage
from unet_ray.config_training import MetricName, ModelSection
from unet_ray.documents import pack_document, unpack_document
from unet_ray.errors import CheckpointError, ConfigError, NotFoundError
from unet_ray.labels.classes import ClassMap
from unet_ray.model.build import build_model
from unet_ray.model.network import SegmentationNetwork
from unet_ray.quality import Estimator
from unet_ray.reference import Reference

logger = logging.getLogger(__name__)

_KEEP_LAST = 2
_MANIFEST = "MANIFEST.json"
_MODEL = "model.safetensors"
_AVERAGE = "average.safetensors"
_OPTIMIZER = "optimizer.safetensors"


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelCard:
    """What a network is and how its input and output are meant; prediction takes all of it from here.

    ``mean`` and ``std`` are of R, G, B in 0..255. ``input_size`` is the height and width all training frames were
    resized to, or None when they kept theirs. ``model`` is the architecture; what its encoder began with is not of it.
    """

    class_map: ClassMap
    model: ModelSection
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    input_size: tuple[int, int] | None
    dataset_run_id: str

    def build(self) -> SegmentationNetwork:
        """Return the network, with new weights."""
        return build_model(self.model, self.class_map.num_classes)

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> "ModelCard":
        """Return the card that ``dataclasses.asdict`` and JSON made a document of."""
        tuples = {key: tuple(value) for key, value in document.items() if isinstance(value, list)}
        parts = {"class_map": ClassMap.from_facts(document["class_map"]), "model": ModelSection(**document["model"])}
        return ModelCard(**{**document, **tuples, **parts})


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointInfo:
    """A checkpoint as its manifest describes it.

    ``epoch`` is the one it was saved after or, inside one, that one. ``score`` is the epoch's ``metric`` (a key of the
    history), None without a validation and inside an epoch.
    """

    uri: str
    step: int
    epoch: int
    metric: MetricName
    score: float | None
    files: Mapping[str, str]

    @property
    def model_sha256(self) -> str:
        """Hash of the weights that predict: the model's identity."""
        return self.files[_AVERAGE if _AVERAGE in self.files else _MODEL]


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """A checkpoint in memory.

    ``average`` holds the averaged weights of a run that keeps them, else nothing. ``estimator`` and ``reference``, the
    frames of the validation, are None where it was not validated just before it was saved.
    """

    info: CheckpointInfo
    card: ModelCard
    estimator: Estimator | None
    reference: Reference | None
    weights: Mapping[str, Tensor]
    average: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]
    progress: Mapping[str, Any]

    def load_model(self) -> SegmentationNetwork:
        """Return the network that predicts: with the averaged weights if there are any, else with the others.

        Raises:
            CheckpointError: The weights are of another architecture than the card says.
        """
        model = self.card.build()
        try:
            model.load_state_dict(dict(self.average or self.weights))
        except RuntimeError as error:
            raise CheckpointError(
                f"{self.info.uri}: the weights do not fit the card: {str(error).splitlines()[-1].strip()}"
            ) from None
        return model


def save_checkpoint(
    train_uri: str,
    *,
    card: ModelCard,
    model: nn.Module,
    average: nn.Module | None = None,
    optimizer: torch.optim.Optimizer,
    step: int,
    epoch: int,
    metric: MetricName = "miou",
    score: float | None,
    estimator: Estimator | None = None,
    reference: Reference | None = None,
    progress: Mapping[str, Any],
) -> CheckpointInfo:
    """Write a checkpoint under a name of its own, manifest last; runs on rank 0.

    Raises:
        CheckpointError: A weight is not finite; nothing is written.
    """
    networks = {_MODEL: model} | ({} if average is None else {_AVERAGE: average})
    weights = {file: network.state_dict() for file, network in networks.items()}
    for name, tensor in (item for tensors in weights.values() for item in tensors.items()):
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise CheckpointError(
                f"step {step}: {name} holds NaN or Inf; lower optim.lr and start again from the last checkpoint"
            )
    state = {
        "card": asdict(card),
        "estimator": None if estimator is None else asdict(estimator),
        "reference": None if reference is None else reference.to_json(),
        "progress": dict(progress),
    }
    contents = {
        **{file: pack_tensors({k: v.contiguous() for k, v in tensors.items()}) for file, tensors in weights.items()},
        _OPTIMIZER: pack_tensors(_flatten_optimizer(optimizer)),
        "state.json": json.dumps(state, indent=1).encode(),
    }
    uri = f"{train_uri}/checkpoints/step-{step:08d}-{uuid.uuid4().hex[:8]}"
    for name, data in contents.items():
        storage.write(f"{uri}/{name}", data)
    files = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    info = CheckpointInfo(uri=uri, step=step, epoch=epoch, metric=metric, score=score, files=files)
    manifest = {key: value for key, value in asdict(info).items() if key != "uri"}
    storage.write(f"{uri}/{_MANIFEST}", pack_document(manifest))
    return info


def load_checkpoint(info: CheckpointInfo, *, optimizer: bool = True) -> Checkpoint:
    """Read a checkpoint and check every file against the manifest.

    Args:
        info: The checkpoint.
        optimizer: Also read what only training has a use for, most of the bytes: the optimizer, and the weights as they
            are where there are averaged ones.

    Raises:
        CheckpointError: A file is missing or changed.
    """
    contents: dict[str, bytes] = {}
    unused = {_OPTIMIZER, *([_MODEL] if _AVERAGE in info.files else [])}
    for name, sha256 in info.files.items():
        if name in unused and not optimizer:
            continue
        try:
            contents[name] = storage.read_bytes(f"{info.uri}/{name}")
        except NotFoundError:
            raise CheckpointError(f"{info.uri}: {name} is missing; use another checkpoint") from None
        if hashlib.sha256(contents[name]).hexdigest() != sha256:
            raise CheckpointError(
                f"{info.uri}: {name} is damaged (sha256 differs from {_MANIFEST}); use another checkpoint"
            )
    try:
        state = json.loads(contents["state.json"])
        return Checkpoint(
            info=info,
            card=ModelCard.from_json(state["card"]),
            estimator=Estimator.from_json(state.get("estimator")),
            reference=Reference.from_json(state.get("reference")),
            weights=_parse(contents, _MODEL),
            average=_parse(contents, _AVERAGE),
            optimizer=_parse(contents, _OPTIMIZER),
            progress=state["progress"],
        )
    except (KeyError, TypeError, ValueError, ConfigError, SafetensorError) as error:
        raise CheckpointError(f"{info.uri}: not a checkpoint of this unet-ray: {error}") from error


def list_checkpoints(train_uri: str) -> list[CheckpointInfo]:
    """Return the checkpoints of a run that have a sound manifest, oldest first; others get a warning in the log."""
    found: list[CheckpointInfo] = []
    for uri in _list_folders(train_uri):
        try:
            found.append(_read_manifest(uri))
        except CheckpointError as error:
            logger.warning("passed over: %s", error)
    return sorted(found, key=lambda info: (info.step, info.uri))


def find_checkpoint(train_uri: str, which: str, *, optimizer: bool = True) -> Checkpoint:
    """Load ``best`` or ``last`` of a run, or the checkpoint folder at a URI.

    A damaged checkpoint is passed over, with a warning in the log, for the next older (last) or next best (best) one.
    ``optimizer`` is `load_checkpoint`'s.

    Raises:
        CheckpointError: There is none, or no sound one.
    """
    if which not in ("best", "last"):
        return load_checkpoint(_read_manifest(which.rstrip("/")), optimizer=optimizer)
    infos = list_checkpoints(train_uri)
    if not infos:
        raise CheckpointError(f"{train_uri}: no checkpoint here; run `unet-ray train` first, or set predict.checkpoint")
    return _load_first(reversed(sorted(infos, key=_rank) if which == "best" else infos), optimizer=optimizer)


def open_checkpoint(uri: str) -> Checkpoint:
    """Load the checkpoint at a URI, or the best one of a run's train folder, without its optimizer.

    Raises:
        CheckpointError: There is none, or no sound one.
    """
    return find_checkpoint(uri, "best" if list_checkpoints(uri) else uri, optimizer=False)


def resume_checkpoint(train_uri: str) -> Checkpoint | None:
    """Load the last sound checkpoint of a run; None when none was ever finished.

    Raises:
        CheckpointError: There are some, but no sound one.
    """
    infos = list_checkpoints(train_uri)
    if not infos and any(storage.exists(f"{uri}/{_MANIFEST}") for uri in _list_folders(train_uri)):
        raise CheckpointError(f"{train_uri}: no checkpoint here is sound; restore one, or begin a run of another name")
    return _load_first(reversed(infos)) if infos else None


def merit(metric: MetricName, score: float) -> float:
    """Return a score such that more is better."""
    return -score if metric == "train_loss" else score


def prune_checkpoints(train_uri: str) -> None:
    """Delete all but the last two checkpoints and the best, once the newest one was read back and found sound.

    What is older than that one and no checkpoint, because it was cut off or damaged, goes too. The manifest goes first,
    so that a checkpoint is never half there.

    Raises:
        CheckpointError: No checkpoint is sound; nothing is deleted.
    """
    infos = list_checkpoints(train_uri)
    keep = {info.uri for info in [*infos[-_KEEP_LAST:], *sorted(infos, key=_rank)[-1:]]}
    spare = [uri for uri in _list_folders(train_uri) if uri not in keep]
    if not infos or not spare:
        return
    newest = _load_first(reversed(infos)).info.uri
    for uri in spare:
        if storage.name(uri) < storage.name(newest):  # names begin with the step
            for item in sorted(storage.list_objects(uri), key=lambda item: item.key != _MANIFEST):
                storage.delete(item.uri)


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put saved moments back into an optimizer over the same parameters, in the same order."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, key = name.partition(".")
        parameter = parameters[int(index)]
        if tensor.shape == parameter.shape:  # in the parameter's memory order, which fused optimizers rely on
            tensor = torch.empty_like(parameter).copy_(tensor)
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _parse(contents: Mapping[str, bytes], name: str) -> Mapping[str, Tensor]:
    return parse_tensors(contents[name]) if name in contents else {}


def _flatten_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    state = optimizer.state_dict()["state"]
    return {f"{index}.{key}": value.contiguous() for index, slots in state.items() for key, value in slots.items()}


def _rank(info: CheckpointInfo) -> tuple[float, int]:
    return (-math.inf if info.score is None else merit(info.metric, info.score), info.step)


def _load_first(infos: Iterable[CheckpointInfo], *, optimizer: bool = True) -> Checkpoint:
    """Load the first sound one of at least one checkpoint."""
    errors: list[CheckpointError] = []
    for info in infos:
        try:
            return load_checkpoint(info, optimizer=optimizer)
        except CheckpointError as error:
            logger.warning("passed over: %s", error)
            errors.append(error)
    raise errors[0]


def _list_folders(train_uri: str) -> list[str]:
    """Return the URIs of the folders that hold a checkpoint or what is left of one."""
    root = f"{train_uri}/checkpoints"
    try:
        return sorted({f"{root}/{item.key.partition('/')[0]}" for item in storage.list_objects(root)})
    except NotFoundError:
        return []


def _read_manifest(uri: str) -> CheckpointInfo:
    try:
        data = storage.read_bytes(f"{uri}/{_MANIFEST}")
    except NotFoundError:
        raise CheckpointError(
            f"{uri}: no checkpoint here ({_MANIFEST} is missing); it was cut off, or predict.checkpoint is wrong"
        ) from None
    document = unpack_document(data, f"{uri}/{_MANIFEST}", CheckpointError)
    try:
        info = CheckpointInfo(uri=uri, **document)
        if any("/" in name for name in info.files):  # they are read, and deleted when the checkpoint is pruned
            raise ValueError("it lists a file outside its folder")
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{uri}/{_MANIFEST}: not a manifest of a checkpoint: {error}") from error
    return info
