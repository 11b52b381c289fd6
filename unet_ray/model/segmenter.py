"""From frames to masks with a trained network: the one path that validation and prediction share.

Shapes: B batch, C channels, K classes, H W pixels.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unet_ray.config import Arithmetic, Precision, PredictSection
from unet_ray.errors import ResourceError
from unet_ray.model.frozen import freeze
from unet_ray.model.network import SegmentationNetwork
from unet_ray.model.onnx_network import OnnxNetwork
from unet_ray.model.planes import make_planes
from unet_ray.model.segmented import Segmented
from unet_ray.model.tiles import Tile, cut_tiles
from unet_ray.model.views import PLAIN, View, average_views, view_reach, view_step

logger = logging.getLogger(__name__)

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}

Image = NDArray[np.uint8]


def resolve_precision(precision: Precision, device: torch.device) -> Arithmetic:
    """Return the arithmetic to use: ``auto`` is bf16 where the hardware multiplies it natively."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if torch.cpu.get_capabilities().get("avx512_bf16", False) else "fp32"


class Segmenter:
    """A frozen copy of a network, ready for inference: batch norm folded, channels last, in one precision.

    A network from an ONNX file is as it was exported, in fp32.

    Lives in a prediction actor or, during validation, in a train worker. The masks depend on which frames share
    a call (reduced precision is not associative), so callers cut batches by plan.
    """

    def __init__(
        self,
        model: SegmentationNetwork | OnnxNetwork,
        mean: Sequence[float],
        std: Sequence[float],
        device: torch.device,
        precision: Arithmetic,
        *,
        most_pixels: int = PredictSection.forward_pixels,
        views: tuple[View, ...] = PLAIN,
        measured: bool = False,
        second: bool = False,
    ) -> None:
        """Copy the network, or place it.

        Args:
            model: The network.
            mean: Mean of R, G, B in 0..255.
            std: Standard deviation of R, G, B.
            device: Where it runs.
            precision: What it computes in; fp32 for a network from an ONNX file.
            most_pixels: Most pixels in a forward pass: more images go one after the other, larger ones in tiles.
            views: What is averaged.
            measured: Whether to give confidence and entropy beside the masks.
            second: Whether to give the second most probable class.
        """
        self._device = device
        self._dtype = _DTYPES[precision]
        self._sizes = model.sizes
        self._views = views
        self._measured = measured
        self._second = second
        self._most_pixels = most_pixels
        self._step = view_step(views, model.sizes.stride)
        self._reach = view_reach(views, model.reach)
        frozen = freeze(model, device, self._dtype) if isinstance(model, SegmentationNetwork) else model.place(device)
        self._model: Callable[[Tensor], Tensor] = frozen
        self._mean = torch.tensor(mean, device=device, dtype=self._dtype)
        self._scale = (1 / torch.tensor(std, device=device)).to(self._dtype)

    def segment(self, images: Sequence[Image]) -> list[Segmented]:
        """Return what the network makes of each ``(H, W, 3)`` uint8 RGB image, of any size.

        Images of one size share forward passes. Sizes that the network cannot take are padded on the right and at
        the bottom with the mean colour, and the masks cropped back. For a network of valid convolutions images are
        mirrored instead, on all sides, so that its output is the whole of them. Without enough memory it goes on with
        half as many pixels in a pass, and says so.

        Raises:
            ResourceError: There is not enough memory for the smallest tile.
        """
        same_size: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for position, image in enumerate(images):
            same_size[image.shape].append(position)
        results: dict[int, Segmented] = {}
        for positions in same_size.values():
            results.update(zip(positions, self._segment([images[position] for position in positions]), strict=True))
        return [results[position] for position in range(len(images))]

    def _segment(self, images: list[Image]) -> list[Segmented]:
        """Segment images of one size, as many at a time as fit into a forward pass."""
        results: list[Segmented] = []
        while len(results) < len(images):
            tiles = self._cut(*images[0].shape[:2])
            largest = max(tile.area(self._sizes.margin) for tile in tiles)
            share = images[len(results) :][: max(1, self._most_pixels // largest)]
            try:
                results += self._put_together(share, tiles)
            except (RuntimeError, MemoryError) as error:
                if not _is_out_of_memory(error):
                    raise
                self._most_pixels = largest * len(share) // 2
                if len(share) == 1 and self._cut(*images[0].shape[:2]) == tiles:
                    raise ResourceError(
                        f"predict.forward_pixels: there is no memory for {largest} pixels, the fewest that this "
                        "network can take of an image at once; predict with more memory, or a smaller network"
                    ) from None
            else:
                continue
            logger.warning("out of memory: going on with %d pixels in a forward pass", self._most_pixels)
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
        return results

    def _cut(self, height: int, width: int) -> tuple[Tile, ...]:
        if self._step == self._sizes.stride:
            sides = (self._sizes.at_least(height), self._sizes.at_least(width))
        else:
            sides = (-(-height // self._step) * self._step, -(-width // self._step) * self._step)
        return cut_tiles(*sides, self._sizes, self._reach, self._step, self._most_pixels)

    def _put_together(self, images: list[Image], tiles: tuple[Tile, ...]) -> list[Segmented]:
        """Return what the tiles of images of one size make together."""
        height, width = images[0].shape[:2]
        planes: dict[str, NDArray[np.uint8]] = defaultdict(lambda: np.empty((len(images), height, width), np.uint8))
        margin = self._sizes.margin
        if margin:
            bottom, right = tiles[-1].rows.end - height, tiles[-1].columns.end - width
            around = ((margin, margin + bottom), (margin, margin + right), (0, 0))
            images = [np.pad(image, around, mode="reflect") for image in images]
        for tile in tiles:
            rows, columns = (slice(span.first, span.end + 2 * margin) for span in (tile.rows, tile.columns))
            within = (slice(None), slice(height - tile.rows.core_first), slice(width - tile.columns.core_first))
            found = self._see(np.stack([image[rows, columns] for image in images]), tile)
            for name, plane in found.items():
                planes[name][:, tile.rows.core, tile.columns.core] = plane[within].cpu().numpy()
        return [Segmented(**{name: plane[number] for name, plane in planes.items()}) for number in range(len(images))]

    @torch.inference_mode()
    def _see(self, batch_BHWC: NDArray[np.uint8], tile: Tile) -> dict[str, Tensor]:
        """Return ``(B, h, w)`` uint8 planes of the core of a tile, on the device."""
        image_BCHW = self._normalise(torch.from_numpy(batch_BHWC).to(self._device, non_blocking=True))
        margin = 2 * self._sizes.margin
        bottom = tile.rows.end - tile.rows.first + margin - image_BCHW.shape[2]
        right = tile.columns.end - tile.columns.first + margin - image_BCHW.shape[3]
        if bottom or right:
            image_BCHW = nn.functional.pad(image_BCHW, (0, right, 0, bottom))
        if self._views == PLAIN:
            logits_BKHW = self._model(image_BCHW)
        else:
            logits_BKHW = average_views(self._model, image_BCHW, self._views)
        logits_BKHW = logits_BKHW[:, :, tile.rows.kept, tile.columns.kept]
        images = [make_planes(logits_KHW, measured=self._measured, second=self._second) for logits_KHW in logits_BKHW]
        return {name: torch.stack([planes[name] for planes in images]) for name in images[0]}

    def _normalise(self, image_BHWC: Tensor) -> Tensor:
        """Return ``(B, C, H, W)``, channels last; row by row, as three channels alone are less than a vector."""
        rows_BHW = image_BHWC.flatten(2).to(self._dtype)
        mean_W, scale_W = (values_C.repeat(image_BHWC.shape[2]) for values_C in (self._mean, self._scale))
        return rows_BHW.sub_(mean_W).mul_(scale_W).view(image_BHWC.shape).permute(0, 3, 1, 2)


def _is_out_of_memory(error: Exception) -> bool:
    """Tell whether an allocation failed; on a CPU torch has no exception of its own for that."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
