"""The prediction actor: one network, kept warm; decoded frames in, masks and integer counts out."""

from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from unet_ray.checkpoint import CheckpointInfo, load_checkpoint
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
        precision: Literal["bf16", "fp32"],
        mask_encoding: MaskEncoding,
    ) -> None:
        """Load and verify the checkpoint."""
        torch.set_num_threads(threads)
        loaded = load_checkpoint(checkpoint)
        self._card = loaded.card
        self._encoding = mask_encoding
        where = torch.device("cuda" if device == "gpu" else "cpu")
        self._segmenter = Segmenter(loaded.load_model(), loaded.card.mean, loaded.card.std, where, precision)

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Return the finished rows, in the order they came; frames that did not load stay quarantined."""
        records = rows.drop_columns(["image", "true_mask"]).to_pylist()
        good = [position for position, record in enumerate(records) if record["error_code"] is None]
        images = [_pixels(rows["image"][position], records[position], 3) for position in good]
        masks = self._segment(images)
        results: list[dict[str, Any]] = [{**record, "status": QUARANTINED} for record in records]
        for position, mask in zip(good, masks, strict=True):
            truth = rows["true_mask"][position]
            true_mask = _pixels(truth, records[position], 1) if truth.is_valid else None
            results[position] = records[position] | self._finish(mask, true_mask)
        return pa.Table.from_pylist(results, schema=PREDICTION)

    def _segment(self, images: list[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
        size = self._card.input_size
        if size is None:
            return self._segmenter.segment(images)
        masks = self._segmenter.segment([resize_image(image, *size) for image in images])
        return [resize_mask(mask, *image.shape[:2]) for mask, image in zip(masks, images, strict=True)]

    def _finish(self, mask: NDArray[np.uint8], true_mask: NDArray[np.uint8] | None) -> dict[str, Any]:
        num_classes = len(self._card.classes)
        result: dict[str, Any] = {
            "status": OK,
            "pred_mask": encode_mask(mask, self._encoding),
            "class_pixels": count_classes(mask, num_classes)[0].tolist(),
        }
        if true_mask is not None:
            result["ignored_pixels"] = int(np.count_nonzero(true_mask == IGNORE_INDEX))
            result["confusion"] = count_confusion(true_mask, mask, num_classes).ravel().tolist()
        return result


def _pixels(cell: pa.LargeBinaryScalar, record: dict[str, Any], channels: int) -> NDArray[np.uint8]:
    shape = (record["height"], record["width"], channels)
    pixels = np.frombuffer(cell.as_buffer(), np.uint8).reshape(shape)
    return pixels if channels > 1 else pixels[:, :, 0]
