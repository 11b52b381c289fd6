"""The prediction actor: one network, kept warm; decoded frames in, masks and integer counts out."""

import functools
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
from unet_ray.metrics import (
    count_classes,
    count_components,
    count_confusion,
    count_lasting,
    measure_boundaries,
    sum_by_class,
)
from unet_ray.model.segmenter import Segmented, Segmenter
from unet_ray.model.views import make_views
from unet_ray.predict.sequence import Seen, see
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
        self._estimator = loaded.estimator
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

    def __call__(self, rows: pa.Table, row_ids: range) -> pa.Table:
        """Return the finished rows of ``row_ids``, in the order they came; frames that did not load stay quarantined.

        Further rows, before and after these, are frames of their groups that vote (``predict.smooth_frames``).
        """
        records = rows.drop_columns(["image", "true_mask"]).to_pylist()
        frames = [(record, *view) for record, view in zip(records, view_frames(rows), strict=True) if view is not None]
        finished = {record["row_id"]: record | {"status": QUARANTINED} for record in records}
        images, groups = [image for _, image, _ in frames], [record["group"] for record, _, _ in frames]
        seen = see(images, groups, self._segment, self._section, self._card.class_map.num_classes)
        for (record, image, true_mask), one in zip(frames, seen, strict=True):
            if record["row_id"] in row_ids:
                key = frames[one.key][0]["row_id"]
                finished[record["row_id"]] = record | {
                    "status": OK,
                    "channel_sum": [int(value) for value in cv2.sumElems(image)[:3]],
                    "copied_from": None if key == record["row_id"] else key,
                    **self._describe(one),
                    **self._compare(one.found, true_mask),
                }
        return pa.Table.from_pylist(
            [finished[record["row_id"]] for record in records if record["row_id"] in row_ids], schema=PREDICTION
        )

    def _segment(self, images: list[NDArray[np.uint8]]) -> list[Segmented]:
        size = self._card.input_size
        if size is None:
            return self._segmenter.segment(images)
        found = self._segmenter.segment([resize_image(image, *size) for image in images])
        return [
            one.change(functools.partial(resize_mask, height=image.shape[0], width=image.shape[1]))
            for one, image in zip(found, images, strict=True)
        ]

    def _describe(self, seen: Seen) -> dict[str, Any]:
        """Return the planes of a frame, and what they come to."""
        num_classes, encoding = self._card.class_map.num_classes, self._section.mask_encoding
        found, mask = seen.found, seen.found.mask
        assert found.confidence is not None
        assert found.entropy is not None
        class_pixels = count_classes(mask, num_classes)[0].tolist()
        confidence_sum = sum_by_class(mask, found.confidence, num_classes).tolist()
        result: dict[str, Any] = {
            "pred_mask": encode_mask(mask, encoding),
            "class_pixels": class_pixels,
            "confidence_sum": confidence_sum,
            "entropy_sum": int(found.entropy.sum(dtype=np.int64)),
            "boundary_length": measure_boundaries(mask),
            "components": count_components(mask, num_classes).tolist(),
        }
        if seen.before is not None:
            result["lasting"] = count_lasting(mask, seen.before, num_classes).ravel().tolist()
        if self._estimator is not None:
            result["expected_miou"] = self._estimator.estimate(class_pixels, confidence_sum)
        if "confidence" in self._section.planes:
            result["confidence"] = encode_mask(found.confidence, encoding)
        if found.second is not None:
            result["second_mask"] = encode_mask(found.second, encoding)
        return result

    def _compare(self, found: Segmented, true_mask: NDArray[np.uint8] | None) -> dict[str, Any]:
        """Return how a frame compares with its truth, where there is one."""
        if true_mask is None:
            return {}
        assert found.confidence is not None
        num_classes = self._card.class_map.num_classes
        return {
            "ignored_pixels": int(np.count_nonzero(true_mask == IGNORE_INDEX)),
            "confusion": count_confusion(true_mask, found.mask, num_classes).ravel().tolist(),
            "calibration": count_calibration(true_mask, found.mask, found.confidence, num_classes).ravel().tolist(),
        }
