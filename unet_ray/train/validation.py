"""What a validation counts: pixels by true and predicted class, and how confidence goes with the mIoU of a frame."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from unet_ray.datasets.frames import view_frames
from unet_ray.metrics import count_classes, count_confusion, score, sum_by_class
from unet_ray.model.segmenter import Segmenter
from unet_ray.quality import Estimator, confident_miou, count_frame, fit
from unet_ray.train.ranks import sum_counts


@dataclass(kw_only=True)
class Validation:
    """The ``(K, K)`` confusion of frames, and the sum of `quality.count_frame` over them; all zero without frames."""

    confusion_KK: NDArray[np.int64]
    quality: NDArray[np.int64]

    @staticmethod
    def empty(num_classes: int) -> "Validation":
        """Return the counts of no frame."""
        return Validation(confusion_KK=np.zeros((num_classes,) * 2, np.int64), quality=np.zeros(6, np.int64))

    def add(self, segmenter: Segmenter, rows: pa.Table) -> None:
        """Count a batch of frames with truth (`frames.FRAMES`); those that did not load are left out."""
        num_classes = len(self.confusion_KK)
        frames = [frame for frame in view_frames(rows) if frame is not None]
        for (_, truth), found in zip(frames, segmenter.segment([image for image, _ in frames]), strict=True):
            assert truth is not None
            assert found.confidence is not None
            confusion_KK = count_confusion(truth, found.mask, num_classes)
            self.confusion_KK += confusion_KK
            miou = score(confusion_KK).miou
            if miou is not None:
                pixels, _ = count_classes(found.mask, num_classes)
                confidence_sum = sum_by_class(found.mask, found.confidence, num_classes)
                self.quality += count_frame(confident_miou(pixels.tolist(), confidence_sum.tolist()), miou)

    def sum_up(self, device: torch.device) -> None:
        """Add up over all ranks; all of them call it."""
        self.confusion_KK = sum_counts(self.confusion_KK, device)
        self.quality = sum_counts(self.quality, device)

    def estimator(self) -> Estimator | None:
        """Return what tells the mIoU of further frames by the network that was validated."""
        return fit(self.quality)
