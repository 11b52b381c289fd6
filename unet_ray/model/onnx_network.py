"""A network from an ONNX file, which onnxruntime runs in the place of one of ours.

Such a file may come from anywhere. It is taken apart before onnxruntime sees it, since it could name other files as its
weights. Operators that ONNX itself does not have are refused, and no library with further ones is ever loaded.

Shapes: B batch, C channels, K classes, H W pixels.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from unet_ray.errors import ConfigError
from unet_ray.sizes import Sizes

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from onnx import TensorProto
    from onnxruntime import InferenceSession

INPUT, OUTPUT = "image", "logits"
"""Names of what the graph takes and gives."""
MOST_BYTES = 2**31 - 1
"""Largest ONNX file: Protocol Buffers have no larger messages."""

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
"""Providers of onnxruntime."""

_FATAL_ONLY = 4  # onnxruntime would write to standard error what it also raises


def read_metadata(data: bytes) -> dict[str, str]:
    """Return the ``metadata_props`` of an ONNX file that has all its weights inside.

    Raises:
        ConfigError: onnx or onnxruntime is not installed.
        ValueError: It is no ONNX file, names others, or has operators that are not ONNX's.
    """
    onnx, _ = _import()
    from google.protobuf.message import DecodeError

    try:
        proto = onnx.load_model_from_string(data)
    except DecodeError:
        raise ValueError("not an ONNX file, or a part of one; copy or export it again") from None
    if others := {imported.domain for imported in proto.opset_import} - {"", "ai.onnx"}:
        raise ValueError(f"it has operators of {', '.join(sorted(others))}; only those of ONNX itself are run")
    for tensor in _tensors(proto):
        if tensor.external_data or tensor.data_location == tensor.EXTERNAL:
            raise ValueError(
                f"its weights ({tensor.name!r}) lie in another file, and no file is read because a file says so; save "
                "it with all weights inside (onnx.save without save_as_external_data)"
            )
    return {entry.key: entry.value for entry in proto.metadata_props}


class OnnxNetwork:
    """An ONNX graph as `portable.to_onnx` writes it, with the threads that torch has here; fp32."""

    def __init__(
        self,
        data: bytes,
        *,
        sizes: Sizes,
        reach: int | None,
        mean: Sequence[float],
        std: Sequence[float],
        num_classes: int,
    ) -> None:
        """Load the graph on the CPU, and try it on the smallest image it takes.

        Args:
            data: An ONNX file that `read_metadata` has read.
            sizes: The sizes of its outputs.
            reach: Pixels around an output pixel, beside the margin, that its logits depend on; None for all.
            mean: Mean of R, G, B in 0..255, which the graph takes off.
            std: Standard deviation of R, G, B, by which it divides.
            num_classes: K.

        Raises:
            ConfigError: onnx or onnxruntime is not installed.
            ValueError: onnxruntime cannot run it, or it is another network.
        """
        _, runtime = _import()
        self.sizes = sizes
        self.reach = reach
        self._mean_C11, self._std_C11 = (torch.tensor(values)[:, None, None] for values in (mean, std))
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = _FATAL_ONLY
        try:
            self._session: InferenceSession = runtime.InferenceSession(data, options, providers=[CPU])
        except Exception as error:  # onnxruntime's errors have no base of their own
            raise ValueError(
                f"onnxruntime {runtime.__version__} cannot run it: {_first_line(error)}; take a newer one "
                "(pip install -U 'unet-ray[onnx]'), or export the checkpoint again"
            ) from None
        self._check(num_classes)

    def place(self, device: torch.device) -> "OnnxNetwork":
        """Move to a device, as far as this onnxruntime can; returns itself."""
        if choose_provider(device) == CUDA:
            self._session.set_providers([CUDA, CPU])
        return self

    def __call__(self, image_BCHW: Tensor) -> Tensor:
        """Return ``(B, K, h, w)`` float32 logits of a normalised ``(B, C, h + 2 margin, w + 2 margin)`` float32 image.

        Raises:
            MemoryError: There is not enough of it.
        """
        colours_BCHW = image_BCHW.cpu() * self._std_C11 + self._mean_C11  # the graph normalises by itself
        try:
            (logits_BKHW,) = self._session.run([OUTPUT], {INPUT: colours_BCHW.contiguous().numpy()})
        except Exception as error:
            if "alloc" in str(error):
                raise MemoryError(_first_line(error)) from None
            raise
        return torch.from_numpy(logits_BKHW).to(image_BCHW.device)

    def _check(self, num_classes: int) -> None:
        side = self.sizes.smallest
        image_BCHW = np.zeros((1, 3, *[side + 2 * self.sizes.margin] * 2), np.float32)
        wanted = f"logits of {num_classes} classes, {side} x {side} pixels, for RGB of {image_BCHW.shape}"
        try:
            (logits_BKHW,) = self._session.run([OUTPUT], {INPUT: image_BCHW})
        except Exception as error:
            raise ValueError(f"it does not give {wanted}: {_first_line(error)}; export the checkpoint again") from None
        if logits_BKHW.shape != (1, num_classes, side, side) or logits_BKHW.dtype != np.float32:
            raise ValueError(f"it does not give {wanted}, but {logits_BKHW.shape}; export the checkpoint again")


def choose_provider(device: torch.device) -> str:
    """Return what a graph is run with for a device: CUDA where the onnxruntime that is installed here has it."""
    _, runtime = _import()
    return CUDA if device.type == "cuda" and CUDA in runtime.get_available_providers() else CPU


def _import() -> tuple[Any, Any]:
    try:
        import onnx
        import onnxruntime
    except ImportError:
        raise ConfigError("ONNX files need onnxruntime, which is not installed: pip install 'unet-ray[onnx]'") from None
    return onnx, onnxruntime


def _tensors(message: "Message") -> "Iterator[TensorProto]":
    """Yield all tensors of an ONNX message: those of graphs inside nodes and of functions, too."""
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in [value] if hasattr(value, "ListFields") else value:
                if field.message_type.name == "TensorProto":
                    yield part
                yield from _tensors(part)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
