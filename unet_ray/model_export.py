"""``unet-ray export-model``: the network of a checkpoint as one file, for programs that know nothing of us.

Runs on one machine, without Ray.
"""

import hashlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch.export import ExportedProgram

from unet_ray import storage
from unet_ray.checkpoint import open_checkpoint
from unet_ray.errors import ConfigError
from unet_ray.exported import make_metadata
from unet_ray.model.portable import to_onnx, to_pt2, trace_program

_WRITERS: Mapping[str, Callable[[ExportedProgram, Mapping[str, Any]], bytes]] = {".onnx": to_onnx, ".pt2": to_pt2}


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFile:
    """The file that `run` wrote, and the checkpoint whose network it holds."""

    file: str
    checkpoint: str
    size_bytes: int
    sha256: str


def run(checkpoint: str, file: str) -> ModelFile:
    """Write the network of a checkpoint to a file: ``.onnx`` is ONNX, ``.pt2`` a program of torch.export.

    Batch norm is folded and normalisation inside; what the file takes, gives and says of itself is in
    docs/model-export.md.

    Args:
        checkpoint: URI of a checkpoint folder, or of a run's train folder, of which the best one is taken.
        file: URI of the file, which is not there yet, or is the same.

    Raises:
        CheckpointError: There is no checkpoint, or no sound one.
        ConfigError: The ending is another, the network is too large for ONNX, or onnx is not installed.
        ExistsError: Another file is there.
    """
    write = next((writer for ending, writer in _WRITERS.items() if file.endswith(ending)), None)
    if write is None:
        raise ConfigError(f"export-model: {file} must end in {' or '.join(_WRITERS)}, which says what is written")
    loaded = open_checkpoint(checkpoint)
    program = trace_program(loaded.load_model(), loaded.card.mean, loaded.card.std)
    data = write(program, make_metadata(loaded))
    storage.create(file, data, exclusive=False)
    sys.stderr.write(f"{len(data):,} bytes: {file}\n")
    return ModelFile(
        file=file, checkpoint=loaded.info.uri, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest()
    )
