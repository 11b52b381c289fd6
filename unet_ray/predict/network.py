"""The prediction actor: one network, kept warm; decoded frames in, masks and integer counts out."""

from typing import Any, Literal

import cv2
import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from unet_ray.calibration import count_calibration
from unet_ray.checkpoint import CheckpointInfo, load_checkpoint
from unet_ray.config import Arithmetic, PredictSection
from unet_ray.datasets.frames import view_frames
from unet_ray.images.encode import encode_mask
from unet_ray.images.resize import resize_image, resize_mask
from unet_ray.metrics import count_classes, count_confusion, measure_boundaries, sum_by_class
from unet_ray.model.segmenter import Segmented, Segmenter
from unet_ray.model.views import make_views
from unet_ray.schema import IGNORE_INDEX, OK, PREDICTION, QUARANTINED


class Network:
    """Segments the frames of one unit per call (`FRAMES` in, `schema.PREDICTION` out); lives in a Ray actor."""

    def __init__(
        self,
        checkpoint: CheckpointInfo,
        device: Literal["cpu", "gpu"],
        threads: int,
        precision: Arithmetic,
        section: PredictSection,
    ) -> None:
        """Load and verify the checkpoint."""
        torch.set_num_threads(threads)
        loaded = load_checkpoint(checkpoint, optimizer=False)
        self._card = loaded.card
        self._section = section
        self._segmenter = Segmenter(
            loaded.load_model(),
            loaded.card.mean,
            loaded.card.std,
            torch.device("cuda" if device == "gpu" else "cpu"),
            precision,
            most_pixels=section.forward_pixels,
            views=make_views(section.flips, section.scales),
            measured=True,
            second="second_mask" in section.planes,
        )

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Return the finished rows, in the order they came; frames that did not load stay quarantined."""
        records = rows.drop_columns(["image", "true_mask"]).to_pylist()
        frames = [(position, view) for position, view in enumerate(view_frames(rows)) if view is not None]
        found = self._segment([image for _, (image, _) in frames])
        results: list[dict[str, Any]] = [{**record, "status": QUARANTINED} for record in records]
        for (position, (image, true_mask)), segmented in zip(frames, found, strict=True):
            channel_sum = [int(value) for value in cv2.sumElems(image)[:3]]
            results[position] = records[position] | {"channel_sum": channel_sum} | self._finish(segmented, true_mask)
        return pa.Table.from_pylist(results, schema=PREDICTION)

    def _segment(self, images: list[NDArray[np.uint8]]) -> list[Segmented]:
        size = self._card.input_size
        if size is None:
            return self._segmenter.segment(images)
        found = self._segmenter.segment([resize_image(image, *size) for image in images])
        return [_resize(one, *image.shape[:2]) for one, image in zip(found, images, strict=True)]

    def _finish(self, segmented: Segmented, true_mask: NDArray[np.uint8] | None) -> dict[str, Any]:
        num_classes = self._card.class_map.num_classes
        mask, planes, encoding = segmented.mask, self._section.planes, self._section.mask_encoding
        assert segmented.confidence is not None
        assert segmented.entropy is not None
        result: dict[str, Any] = {
            "status": OK,
            "pred_mask": encode_mask(mask, encoding),
            "class_pixels": count_classes(mask, num_classes)[0].tolist(),
            "confidence_sum": sum_by_class(mask, segmented.confidence, num_classes).tolist(),
            "boundary_length": measure_boundaries(mask),
            "entropy_sum": int(segmented.entropy.sum(dtype=np.int64)),
        }
        if "confidence" in planes:
            result["confidence"] = encode_mask(segmented.confidence, encoding)
        if segmented.second is not None:
            result["second_mask"] = encode_mask(segmented.second, encoding)
        if true_mask is not None:
            result["ignored_pixels"] = int(np.count_nonzero(true_mask == IGNORE_INDEX))
            result["confusion"] = count_confusion(true_mask, mask, num_classes).ravel().tolist()
            counts = count_calibration(true_mask, mask, segmented.confidence, num_classes)
            result["calibration"] = counts.ravel().tolist()
        return result


def _resize(found: Segmented, height: int, width: int) -> Segmented:
    planes = (found.mask, found.confidence, found.second, found.entropy)
    mask, *others = (None if plane is None else resize_mask(plane, height, width) for plane in planes)
    assert mask is not None
    return Segmented(mask, *others)
