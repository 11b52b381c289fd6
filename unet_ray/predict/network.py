"""The prediction actor: one network, kept warm; decoded frames in, masks and integer counts out."""

from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from unet_ray.checkpoint import CheckpointInfo, load_checkpoint
from unet_ray.config import Arithmetic
from unet_ray.datasets.frames import view_frames
from unet_ray.images.encode import MaskEncoding, encode_mask
from unet_ray.images.resize import resize_image, resize_mask
from unet_ray.metrics import count_classes, count_confusion
from unet_ray.model.segmenter import Segmenter
from unet_ray.schema import IGNORE_INDEX, OK, PREDICTION, QUARANTINED


class Network:
    """Segments the frames of one unit per call (`FRAMES` in, `schema.PREDICTION` out); lives in a Ray actor."""

    def __init__(
        self,
        checkpoint: CheckpointInfo,
        device: Literal["cpu", "gpu"],
        threads: int,
        precision: Arithmetic,
        mask_encoding: MaskEncoding,
    ) -> None:
        """Load and verify the checkpoint."""
        torch.set_num_threads(threads)
        loaded = load_checkpoint(checkpoint, optimizer=False)
        self._card = loaded.card
        self._encoding = mask_encoding
        where = torch.device("cuda" if device == "gpu" else "cpu")
        self._segmenter = Segmenter(loaded.load_model(), loaded.card.mean, loaded.card.std, where, precision)

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Return the finished rows, in the order they came; frames that did not load stay quarantined."""
        records = rows.drop_columns(["image", "true_mask"]).to_pylist()
        frames = [(position, view) for position, view in enumerate(view_frames(rows)) if view is not None]
        masks = self._segment([image for _, (image, _) in frames])
        results: list[dict[str, Any]] = [{**record, "status": QUARANTINED} for record in records]
        for (position, (_, true_mask)), mask in zip(frames, masks, strict=True):
            results[position] = records[position] | self._finish(mask, true_mask)
        return pa.Table.from_pylist(results, schema=PREDICTION)

    def _segment(self, images: list[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
        size = self._card.input_size
        if size is None:
            return self._segmenter.segment(images)
        masks = self._segmenter.segment([resize_image(image, *size) for image in images])
        return [resize_mask(mask, *image.shape[:2]) for mask, image in zip(masks, images, strict=True)]

    def _finish(self, mask: NDArray[np.uint8], true_mask: NDArray[np.uint8] | None) -> dict[str, Any]:
        num_classes = self._card.class_map.num_classes
        result: dict[str, Any] = {
            "status": OK,
            "pred_mask": encode_mask(mask, self._encoding),
            "class_pixels": count_classes(mask, num_classes)[0].tolist(),
        }
        if true_mask is not None:
            result["ignored_pixels"] = int(np.count_nonzero(true_mask == IGNORE_INDEX))
            result["confusion"] = count_confusion(true_mask, mask, num_classes).ravel().tolist()
        return result
