"""What there is to say of segmented frames: their masks, and the integers counted from them.

Runs in prediction actors, in several threads beside the network: on bytes, and without torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from unet_ray.calibration import count_calibration
from unet_ray.config import PredictSection
from unet_ray.datasets.frames import view_frames
from unet_ray.images.encode import encode_mask
from unet_ray.metrics import (
    count_classes,
    count_components,
    count_confusion,
    count_lasting,
    measure_boundaries,
    sum_by_class,
)
from unet_ray.model.segmented import Segmented
from unet_ray.predict.sequence import Origin, Seen, complete
from unet_ray.quality import Estimator
from unet_ray.schema import IGNORE_INDEX, OK, PREDICTION, QUARANTINED


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentedFrames:
    """The frames of a unit on their way from the network.

    ``rows`` (`FRAMES`) are as they were loaded. Of the frames among them that did load, ``runs`` and ``origins`` are as
    `sequence` has them, and ``segmented`` holds what the network made of some, by position.
    """

    rows: pa.Table
    runs: Sequence[range]
    origins: Sequence[Origin]
    segmented: Mapping[int, Segmented]


@dataclass(frozen=True, kw_only=True, slots=True)
class Describe:
    """Describes the frames of a unit."""

    section: PredictSection
    num_classes: int
    estimator: Estimator | None

    def __call__(self, frames: SegmentedFrames, row_ids: range) -> pa.Table:
        """Return the rows of ``row_ids`` as `schema.PREDICTION` has them, in their order.

        Frames that did not load stay quarantined. Further rows are frames of their groups that vote
        (``predict.smooth_frames``).
        """
        records = frames.rows.drop_columns(["image", "true_mask"]).to_pylist()
        finished = {record["row_id"]: record | {"status": QUARANTINED} for record in records}
        views = zip(records, view_frames(frames.rows), strict=True)
        loaded = [(record["row_id"], *view) for record, view in views if view is not None]
        seen = complete(
            frames.origins,
            frames.runs,
            frames.segmented,
            [image for _, image, _ in loaded],
            smooth_frames=self.section.smooth_frames,
            num_classes=self.num_classes,
        )
        for (row_id, image, true_mask), one in zip(loaded, seen, strict=True):
            if row_id in row_ids:
                key = loaded[one.key][0]
                finished[row_id] |= {
                    "status": OK,
                    "channel_sum": [int(value) for value in cv2.sumElems(image)[:3]],
                    "copied_from": None if key == row_id else key,
                    **self._describe(one),
                    **self._compare(one.found, true_mask),
                }
        return pa.Table.from_pylist(
            [finished[record["row_id"]] for record in records if record["row_id"] in row_ids], schema=PREDICTION
        )

    def _describe(self, seen: Seen) -> Mapping[str, Any]:
        """Return the planes of a frame, and what they come to."""
        encoding = self.section.mask_encoding
        found, mask = seen.found, seen.found.mask
        assert found.confidence is not None
        assert found.entropy is not None
        class_pixels = count_classes(mask, self.num_classes)[0].tolist()
        confidence_sum = sum_by_class(mask, found.confidence, self.num_classes).tolist()
        result: dict[str, Any] = {
            "pred_mask": encode_mask(mask, encoding),
            "class_pixels": class_pixels,
            "confidence_sum": confidence_sum,
            "entropy_sum": int(found.entropy.sum(dtype=np.int64)),
            "boundary_length": measure_boundaries(mask),
            "components": count_components(mask, self.num_classes).tolist(),
        }
        if seen.before is not None:
            result["lasting"] = count_lasting(mask, seen.before, self.num_classes).ravel().tolist()
        if self.estimator is not None:
            result["expected_miou"] = self.estimator.estimate(class_pixels, confidence_sum)
        if "confidence" in self.section.planes:
            result["confidence"] = encode_mask(found.confidence, encoding)
        if found.second is not None:
            result["second_mask"] = encode_mask(found.second, encoding)
        return result

    def _compare(self, found: Segmented, true_mask: NDArray[np.uint8] | None) -> Mapping[str, Any]:
        """Return how a frame compares with its truth, where there is one."""
        if true_mask is None:
            return {}
        assert found.confidence is not None
        return {
            "ignored_pixels": int(np.count_nonzero(true_mask == IGNORE_INDEX)),
            "confusion": count_confusion(true_mask, found.mask, self.num_classes).ravel().tolist(),
            "calibration": count_calibration(true_mask, found.mask, found.confidence, self.num_classes)
            .ravel()
            .tolist(),
        }
