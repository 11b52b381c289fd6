"""The steps of one network in training, and all that changes with them: weights, moments, average, scale of the loss.

Shapes: B batch, C channels, K classes, H W pixels.
"""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from unet_ray.checkpoint import Checkpoint, restore_optimizer
from unet_ray.config import Arithmetic
from unet_ray.config_training import OptimSection
from unet_ray.errors import ResourceError
from unet_ray.model.network import SegmentationNetwork
from unet_ray.train.average import Average
from unet_ray.train.guard import Guard
from unet_ray.train.optimizers import make_optimizer, set_rate
from unet_ray.train.scaler import LossScale

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Stepper:
    """Takes optimizer steps; each is begun, given the gradient of one batch or more, taken and settled (`Guard`)."""

    def __init__(
        self,
        model: SegmentationNetwork,
        network: nn.Module,
        optim: OptimSection,
        precision: Arithmetic,
        device: torch.device,
    ) -> None:
        """Make a stepper at the start of a run; ``network`` is ``model`` with what shares its gradients."""
        self.model = model
        self._network = network
        self._device = device
        self._compiled = optim.compile
        self._dtype = _AUTOCAST.get(precision)
        self.optimizer = make_optimizer(model, optim)
        self._loss_scale = LossScale(device) if precision == "fp16" else None
        self._guard = Guard(model, self.optimizer, optim.clip_norm, self._loss_scale)
        self._average = None if optim.ema_decay is None else Average(model, optim.ema_decay)
        if optim.compile:
            network.compile()

    def resume(self, checkpoint: Checkpoint, taken: int) -> None:
        """Take over the state of a checkpoint, after as many steps."""
        self.model.load_state_dict(dict(checkpoint.weights))
        restore_optimizer(self.optimizer, checkpoint.optimizer)
        if self._loss_scale is not None:
            self._loss_scale.restore(**checkpoint.progress["loss_scale"])
        if self._average is not None:
            self._average.restore(checkpoint.average, taken)

    @property
    def average(self) -> SegmentationNetwork | None:
        """The averaged network as it is now, None in a run that keeps none."""
        return None if self._average is None else self._average.current()

    def current(self) -> SegmentationNetwork:
        """Return the network that is validated: the averaged one, or in a run that keeps none the one in training."""
        return self.model if self._average is None else self._average.current()

    def loss_scale(self) -> dict[str, float] | None:
        """Return what a checkpoint keeps of the scale of the loss, None without one."""
        return None if self._loss_scale is None else self._loss_scale.state()

    def begin(self) -> None:
        """Begin a step."""
        self._guard.begin()
        self._network.train()

    def outputs(self, image_BCHW: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return what the network puts out (`outputs.compared`), computed in the precision of the run.

        Raises:
            ResourceError: The network cannot be compiled here, as ``optim.compile`` asks for.
        """
        compiling = _compiling() if self._compiled else contextlib.nullcontext()
        with torch.autocast(self._device.type, self._dtype, enabled=self._dtype is not None), compiling:
            outputs: Tensor | tuple[Tensor, ...] = self._network(image_BCHW)
        return outputs

    def sharing(self, last: bool) -> contextlib.AbstractContextManager[None]:
        """Say around a batch's forward and backward pass whether ranks share the step's gradient at its end."""
        network = self._network
        if last or not isinstance(network, DistributedDataParallel):
            return contextlib.nullcontext()
        return network.no_sync()

    def sharing_s(self) -> float | None:
        """Return the mean seconds of a step between this rank's gradients and the shared ones.

        DistributedDataParallel measures the first ten steps and every hundredth. None for a rank alone, or not yet.
        """
        ddp = self._network
        measured = ddp._get_ddp_logging_data() if isinstance(ddp, DistributedDataParallel) else {}  # type: ignore[no-untyped-call]
        if "avg_backward_comm_time" not in measured:
            return None
        return float(measured["avg_backward_comm_time"] - measured["avg_backward_compute_comm_overlap_time"]) / 1e9

    def backward(self, loss: Tensor, share: float) -> None:
        """Add a share of the gradient of a loss to the step's."""
        self._guard.backward(loss, share)

    def step(self, rate: float) -> None:
        """Take the step at a learning rate, without waiting for the device to finish it."""
        set_rate(self.optimizer, rate)
        self._guard.step()

    def settle(self) -> bool:
        """Wait for the step and tell whether it was taken, or skipped without a trace."""
        taken = self._guard.settle()
        if taken and self._average is not None:
            self._average.update()
        return taken


@contextlib.contextmanager
def _compiling() -> Iterator[None]:
    """Say in one line that a network cannot be compiled here."""
    from torch._dynamo.exc import BackendCompilerFailed

    try:
        yield
    except BackendCompilerFailed as error:
        cause = " ".join(str(error).partition("\n\n")[0].split())[:200]
        raise ResourceError(
            "optim.compile: torch.compile failed; install a C++ compiler where the workers run, or set it to false "
            f"({cause})"
        ) from None
