"""The network of a prediction actor, kept warm: decoded frames in, planes of bytes out."""

import functools
from typing import Literal

import cv2
import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from unet_ray.checkpoint import CheckpointInfo
from unet_ray.config import Arithmetic, PredictSection
from unet_ray.datasets.frames import view_frames
from unet_ray.exported import ExportedInfo, load_model
from unet_ray.images.resize import resize_image, resize_mask
from unet_ray.model.segmented import Segmented
from unet_ray.model.segmenter import Segmenter
from unet_ray.model.views import make_views
from unet_ray.predict.describe import SegmentedFrames
from unet_ray.predict.sequence import find_runs, trace_origins


class Network:
    """Segments the frames of one unit per call (`FRAMES` in, `describe.SegmentedFrames` out); lives in a Ray actor."""

    def __init__(
        self,
        model: CheckpointInfo | ExportedInfo,
        device: Literal["cpu", "gpu"],
        threads: int,
        precision: Arithmetic,
        section: PredictSection,
    ) -> None:
        """Load and verify the model."""
        torch.set_num_threads(threads)
        cv2.setNumThreads(1)  # enough threads describe frames, each on its own
        loaded = load_model(model)
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

    def __call__(self, rows: pa.Table) -> SegmentedFrames:
        """Segment those of the frames that are not to take the mask of another one."""
        views = zip(view_frames(rows), rows["group"].to_pylist(), strict=True)
        loaded = [(view[0], group) for view, group in views if view is not None]
        images = [image for image, _ in loaded]
        runs = find_runs(images, [group for _, group in loaded])
        origins = trace_origins(
            images, runs, every=self._section.segment_every, copy_repeats=self._section.copy_repeats
        )
        keys = sorted({origin.key for origin in origins})
        segmented = dict(zip(keys, self._segment([images[key] for key in keys]), strict=True))
        return SegmentedFrames(rows=rows, runs=runs, origins=origins, segmented=segmented)

    def _segment(self, images: list[NDArray[np.uint8]]) -> list[Segmented]:
        size = self._card.input_size
        if size is None:
            return self._segmenter.segment(images)
        found = self._segmenter.segment([resize_image(image, *size) for image in images])
        return [
            one.change(functools.partial(resize_mask, height=image.shape[0], width=image.shape[1]))
            for one, image in zip(found, images, strict=True)
        ]
