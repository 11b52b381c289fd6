"""What a validation counts: pixels by true and predicted class, and what will tell of frames without truth.

That is how confidence goes with the mIoU of a frame (`quality`), and what the frames are like (`reference`).
"""

from dataclasses import dataclass

import cv2
import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from unet_ray.checkpoint import ModelCard
from unet_ray.datasets.frames import view_frames
from unet_ray.metrics import count_classes, count_confusion, score, sum_by_class
from unet_ray.model.segmenter import Segmenter
from unet_ray.quality import Estimator, confident_miou, count_frame, fit
from unet_ray.reference import LEVELS, SIZE, Reference, count_levels, find_levels, name_numbers
from unet_ray.train.ranks import sum_counts


@dataclass(kw_only=True)
class Validation:
    """Of frames: the ``(K, K)`` confusion, the sum of `quality.count_frame`, and `reference.count_levels`."""

    confusion_KK: NDArray[np.int64]
    quality: NDArray[np.int64]
    levels_FL: NDArray[np.int64]

    @staticmethod
    def empty(num_classes: int) -> "Validation":
        """Return the counts of no frame."""
        numbers = len(name_numbers([""] * num_classes))
        return Validation(
            confusion_KK=np.zeros((num_classes,) * 2, np.int64),
            quality=np.zeros(6, np.int64),
            levels_FL=np.zeros((numbers, LEVELS), np.int64),
        )

    def add(self, segmenter: Segmenter, rows: pa.Table) -> None:
        """Count a batch of frames with truth (`frames.FRAMES`); those that did not load are left out."""
        num_classes = len(self.confusion_KK)
        frames = [frame for frame in view_frames(rows) if frame is not None]
        numbers = []
        for (image, truth), found in zip(frames, segmenter.segment([image for image, _ in frames]), strict=True):
            assert truth is not None
            assert found.confidence is not None
            assert found.entropy is not None
            pixels_K, _ = count_classes(found.mask, num_classes)
            confidence_sum_K = sum_by_class(found.mask, found.confidence, num_classes)
            confusion_KK = count_confusion(truth, found.mask, num_classes)
            self.confusion_KK += confusion_KK
            miou = score(confusion_KK).miou
            if miou is not None:
                self.quality += count_frame(confident_miou(pixels_K.tolist(), confidence_sum_K.tolist()), miou)
            entropy_sum = found.entropy.sum(dtype=np.int64)
            numbers.append((found.mask.size, cv2.sumElems(image)[:3], confidence_sum_K, entropy_sum, pixels_K))
        if numbers:
            pixels_N, channel_sum_N3, confidence_sum_NK, entropy_sum_N, class_pixels_NK = zip(*numbers, strict=True)
            levels_FN = find_levels(
                pixels_N=np.array(pixels_N),
                channel_sum_N3=np.array(channel_sum_N3, np.int64),
                confidence_sum_NK=np.array(confidence_sum_NK),
                entropy_sum_N=np.array(entropy_sum_N),
                class_pixels_NK=np.array(class_pixels_NK),
            )
            self.levels_FL += count_levels(levels_FN)

    def sum_up(self, device: torch.device) -> None:
        """Add up over all ranks; all of them call it."""
        self.confusion_KK = sum_counts(self.confusion_KK, device)
        self.quality = sum_counts(self.quality, device)
        self.levels_FL = sum_counts(self.levels_FL, device)

    def estimator(self) -> Estimator | None:
        """Return what tells the mIoU of further frames by the network that was validated."""
        return fit(self.quality)

    def reference(self, card: ModelCard) -> Reference | None:
        """Return the frames that the network is known from; of frames that were resized alike, size tells nothing."""
        if not self.levels_FL.any():
            return None
        names = name_numbers(card.class_map.classes)
        first = 0 if card.input_size is None else names.index(SIZE) + 1
        return Reference.of(names[first:], self.levels_FL[first:])
