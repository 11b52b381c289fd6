"""What there is to say of segmented frames: their masks, and the integers counted from them.

Runs in tasks, and imports no torch, which would double their memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from unet_ray.calibration import count_calibration
from unet_ray.config import PredictSection
from unet_ray.datasets.frames import FRAMES, view_pixels
from unet_ray.images.encode import encode_mask
from unet_ray.metrics import (
    count_classes,
    count_components,
    count_confusion,
    count_lasting,
    measure_boundaries,
    sum_by_class,
)
from unet_ray.model.segmented import PLANES, Segmented
from unet_ray.predict.sequence import Origin, Seen, complete, find_runs
from unet_ray.quality import Estimator
from unet_ray.schema import IGNORE_INDEX, OK, PREDICTION, QUARANTINED

SEGMENTED = pa.schema(
    [
        *FRAMES,
        pa.field("channel_sum", pa.list_(pa.int64())),  # as in `schema.PREDICTION`
        pa.field("key", pa.int32()),  # `sequence.Origin`, as positions among the frames that did load
        pa.field("like", pa.int32()),
        *(pa.field(name, pa.large_binary()) for name in PLANES),  # (H, W) uint8; null: not segmented itself
    ]
)
"""Frames on their way from a prediction actor; of the images only those that `sequence.moving` names are left."""

_PIXELS = ("image", "true_mask", *PLANES)


@dataclass(frozen=True, kw_only=True, slots=True)
class Describe:
    """Describes the frames of a unit."""

    section: PredictSection
    num_classes: int
    estimator: Estimator | None

    def __call__(self, rows: pa.Table, row_ids: range) -> pa.Table:
        """Return `schema.PREDICTION` rows of ``row_ids`` from `SEGMENTED` ones, in their order.

        Frames that did not load stay quarantined. Further rows are frames of their groups that vote
        (``predict.smooth_frames``).
        """
        records = rows.drop_columns(_PIXELS).to_pylist()
        pixels = {name: view_pixels(rows, name) for name in _PIXELS}
        loaded = [number for number, record in enumerate(records) if record["height"] is not None]
        frames = [records[number] for number in loaded]
        segmented = {}
        for position, number in enumerate(loaded):
            mask, *others = (pixels[name][number] for name in PLANES)
            if mask is not None:
                segmented[position] = Segmented(mask, *others)
        seen = complete(
            [Origin(key=frame["key"], like=frame["like"]) for frame in frames],
            find_runs([(frame["height"], frame["width"]) for frame in frames], [frame["group"] for frame in frames]),
            segmented,
            [pixels["image"][number] for number in loaded],
            smooth_frames=self.section.smooth_frames,
            num_classes=self.num_classes,
        )
        finished = {record["row_id"]: record | {"status": QUARANTINED} for record in records}
        for number, frame, one in zip(loaded, frames, seen, strict=True):
            if frame["row_id"] in row_ids:
                key = frames[one.key]["row_id"]
                finished[frame["row_id"]] = frame | {
                    "status": OK,
                    "copied_from": None if key == frame["row_id"] else key,
                    **self._describe(one),
                    **self._compare(one.found, pixels["true_mask"][number]),
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
