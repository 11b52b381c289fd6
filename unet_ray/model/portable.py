"""A network as a file that runs without us, from plain RGB to logits: ONNX, or a program of torch.export.

Shapes: B batch, K classes, H W pixels.
"""

import io
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from unet_ray.errors import ConfigError
from unet_ray.model.frozen import fold_batch_norm
from unet_ray.model.network import SegmentationNetwork
from unet_ray.model.onnx_network import INPUT, MOST_BYTES, OUTPUT
from unet_ray.sizes import Sizes

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 18
"""Operator set of ONNX files; onnxruntime has it since 1.14."""
PT2_METADATA = "unet_ray.json"
"""Name of the metadata among the extra files of a program of torch.export."""

_AXES = {INPUT: ("batch", None, "height", "width"), OUTPUT: ("batch", None, "out_height", "out_width")}


class _Portable(nn.Module):
    """Normalisation and network, and nothing that only training knows of."""

    mean: Tensor
    scale: Tensor

    def __init__(self, model: SegmentationNetwork, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network = fold_batch_norm(model)
        self.network.coarse_heads = nn.ModuleList()
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("scale", 1 / torch.tensor(std)[:, None, None])

    def forward(self, image: Tensor) -> Tensor:
        logits_BKHW: Tensor = self.network((image - self.mean) * self.scale)
        return logits_BKHW


def trace_program(model: SegmentationNetwork, mean: Sequence[float], std: Sequence[float]) -> ExportedProgram:
    """Return a network as a graph of torch's operators, batch norm folded, in fp32.

    It takes ``image``, ``(B, 3, H, W)`` float32 RGB in 0..255, and returns ``(B, K, h, w)`` float32 logits, for any B
    and all H and W that are an output size (`Sizes`) with the margin on both sides. It holds no paths of this machine.

    Args:
        model: The network; left as it is.
        mean: Mean of R, G, B in 0..255.
        std: Standard deviation of R, G, B.
    """
    portable = _Portable(model, mean, std).eval()
    shape = {0: Dim("batch"), 2: _side("rows", model.sizes), 3: _side("columns", model.sizes)}
    sides = [model.sizes.input_for(count * model.sizes.stride) for count in (3, 4)]
    program = torch.export.export(portable, (torch.zeros(2, 3, *sides),), dynamic_shapes=(shape,))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    ranges = sorted(program.range_constraints.items(), key=str)  # torch has them in the order of a set
    program.range_constraints.clear()
    program.range_constraints.update(ranges)
    program.example_inputs = None
    return program


def _side(name: str, sizes: Sizes) -> Any:
    """Return the heights or widths of images as torch.export writes them: a multiple of the stride, and a rest."""
    rest = sizes.smallest - sizes.stride + 2 * sizes.margin
    multiple = sizes.stride * Dim(name, min=1)
    return multiple + rest if rest else multiple


def to_pt2(program: ExportedProgram, metadata: Mapping[str, Any]) -> bytes:
    """Return a program as a file for ``torch.export.load``, with JSON values beside it (`PT2_METADATA`)."""
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={PT2_METADATA: json.dumps(metadata, ensure_ascii=False)})
    return buffer.getvalue()


def to_onnx(program: ExportedProgram, metadata: Mapping[str, Any]) -> bytes:
    """Return a program as an ONNX file, with JSON values as its ``metadata_props``.

    Raises:
        ConfigError: onnx is not installed, or the weights are too many for such a file.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401 (torch.onnx needs it)
    except ImportError:
        raise ConfigError("ONNX files need onnx, which is not installed: pip install 'unet-ray[onnx]'") from None
    size_bytes = sum(tensor.nbytes for tensor in program.state_dict.values())
    if size_bytes > MOST_BYTES:
        raise ConfigError(f"{size_bytes:,} bytes of weights; an ONNX file has {MOST_BYTES:,} at most: write .pt2")
    exported = torch.onnx.export(
        program, input_names=[INPUT], output_names=[OUTPUT], opset_version=OPSET, dynamo=True, verbose=False
    )
    assert exported is not None
    proto: ModelProto = exported.model_proto
    _tidy(proto)
    onnx.helper.set_model_props(
        proto, {name: json.dumps(value, ensure_ascii=False) for name, value in metadata.items()}
    )
    data: bytes = proto.SerializeToString(deterministic=True)
    return data


def _tidy(proto: "ModelProto") -> None:
    """Take out the exporter's notes, which quote source files of this machine, and give axes their names."""
    graph = proto.graph
    del graph.metadata_props[:], graph.value_info[:]
    for part in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        del part.metadata_props[:]
        part.doc_string = ""
    for value in (*graph.input, *graph.output):
        for axis, name in zip(value.type.tensor_type.shape.dim, _AXES[value.name], strict=True):
            if name is not None:
                axis.dim_param = name
