"""A network in one file, with all that prediction needs to know of it: ONNX that ``unet-ray export-model`` wrote.

What a checkpoint says in its ``state.json`` stands in the metadata of the file, a JSON value by name. Reads through
`storage`; needs no Ray.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import torch

from unet_ray import __version__, storage
from unet_ray.checkpoint import Checkpoint, CheckpointInfo, ModelCard, find_checkpoint, load_checkpoint, open_checkpoint
from unet_ray.errors import CheckpointError, ConfigError, NotFoundError
from unet_ray.labels.classes import ClassMap
from unet_ray.model.onnx_network import MOST_BYTES, OnnxNetwork, read_metadata
from unet_ray.quality import Estimator
from unet_ray.reference import Reference

_VERSION = "unet_ray"
_OF_CARD = tuple(one.name for one in (*fields(ClassMap), *fields(ModelCard)) if one.name != "class_map")
_NEEDED = (*_OF_CARD, "estimator", "reference", "epoch")


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportedInfo:
    """Which file it is, and the epoch of its checkpoint."""

    uri: str
    epoch: int
    model_sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportedModel:
    """An exported model in memory: what a `Checkpoint` has for prediction, and ``data``, the file."""

    info: ExportedInfo
    card: ModelCard
    estimator: Estimator | None
    reference: Reference | None
    data: bytes = field(repr=False)

    def load_model(self) -> OnnxNetwork:
        """Return the network, with as many threads as torch has here.

        Raises:
            CheckpointError: onnxruntime cannot run it, or it is another network than its metadata says.
            ConfigError: onnxruntime is not installed.
        """
        with torch.device("meta"):
            like = self.card.build()
        try:
            return OnnxNetwork(
                self.data,
                sizes=like.sizes,
                reach=like.reach,
                mean=self.card.mean,
                std=self.card.std,
                num_classes=self.card.class_map.num_classes,
            )
        except ValueError as error:
            raise CheckpointError(f"{self.info.uri}: {error}") from None


Model = Checkpoint | ExportedModel
"""What predicts."""


def find_model(train_uri: str, which: str) -> Model:
    """Load ``best`` or ``last`` of a run, or what is at a URI.

    That is a checkpoint folder, the train folder of another run for its best one, or an exported model (``.onnx``).

    Raises:
        CheckpointError: There is none, or no sound one.
        ConfigError: It is an exported one, and onnxruntime is not installed.
    """
    if which in ("best", "last"):
        return find_checkpoint(train_uri, which, optimizer=False)
    return _load_file(which) if which.endswith(".onnx") else open_checkpoint(which)


def load_model(info: CheckpointInfo | ExportedInfo) -> Model:
    """Load a model that was found before.

    Raises:
        CheckpointError: It is not what it was.
        ConfigError: It is an exported one, and onnxruntime is not installed.
    """
    if isinstance(info, CheckpointInfo):
        return load_checkpoint(info, optimizer=False)
    model = _load_file(info.uri)
    if model.info != info:
        raise CheckpointError(f"{info.uri}: the file changed since the job began (sha256 differs); restore it")
    return model


def make_metadata(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return what the file of a network says of it, as JSON values by name (docs/model-export.md)."""
    card = checkpoint.card
    return {
        _VERSION: __version__,
        **asdict(card.class_map),
        **{name: value for name, value in asdict(card).items() if name != "class_map"},
        "sizes": asdict(card.model.sizes),
        "estimator": None if checkpoint.estimator is None else asdict(checkpoint.estimator),
        "reference": None if checkpoint.reference is None else checkpoint.reference.to_json(),
        "epoch": checkpoint.info.epoch,
        "checkpoint_sha256": checkpoint.info.model_sha256,
    }


def _load_file(uri: str) -> ExportedModel:
    data = _read(uri)
    try:
        metadata = read_metadata(data)
        if _VERSION not in metadata:
            raise ValueError("unet-ray export-model did not write this file; export a checkpoint with it")
        return _parse(uri, data, metadata)
    except ValueError as error:
        raise CheckpointError(f"{uri}: {error}") from None


def _read(uri: str) -> bytes:
    try:
        size_bytes = storage.look_up(uri).size_bytes
        if size_bytes > MOST_BYTES:
            raise CheckpointError(f"{uri}: {size_bytes:,} bytes; an ONNX file has {MOST_BYTES:,} at most")
        return storage.read_bytes(uri)
    except NotFoundError as error:
        raise CheckpointError(f"predict.checkpoint: {error}; name a file that unet-ray export-model wrote") from None


def _parse(uri: str, data: bytes, metadata: Mapping[str, str]) -> ExportedModel:
    from pydantic import TypeAdapter

    try:
        document = {name: json.loads(metadata[name]) for name in _NEEDED}
        return ExportedModel(
            info=ExportedInfo(uri=uri, epoch=int(document["epoch"]), model_sha256=hashlib.sha256(data).hexdigest()),
            card=TypeAdapter(ModelCard).validate_python({**document, "class_map": document}),
            estimator=Estimator.from_json(document["estimator"]),
            reference=Reference.from_json(document["reference"]),
            data=data,
        )
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError, ConfigError) as error:
        said = " ".join(str(error).split())
        raise ValueError(
            f"its metadata is damaged or of another unet-ray: {said}; export the checkpoint again"
        ) from None
