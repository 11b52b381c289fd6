"""The prediction actor: one network, kept warm; decoded frames in, planes of bytes out."""

import functools
from collections.abc import Iterable
from typing import Any, Literal

import cv2
import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from unet_ray.checkpoint import CheckpointInfo, load_checkpoint
from unet_ray.config import Arithmetic, PredictSection
from unet_ray.datasets.frames import pack_pixels, view_pixels
from unet_ray.images.resize import resize_image, resize_mask
from unet_ray.model.segmented import PLANES, Segmented
from unet_ray.model.segmenter import Segmenter
from unet_ray.model.views import make_views
from unet_ray.predict.describe import SEGMENTED
from unet_ray.predict.sequence import find_runs, moving, trace_origins


class Network:
    """Segments the frames of one unit per call (`FRAMES` in, `describe.SEGMENTED` out); lives in a Ray actor.

    What is counted of them is counted elsewhere: a GPU would wait for it.
    """

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
        """Return the rows as they came, with planes for those frames that are segmented themselves."""
        groups = rows["group"].to_pylist()
        loaded = {number: image for number, image in enumerate(view_pixels(rows, "image")) if image is not None}
        images = list(loaded.values())
        runs = find_runs([image.shape[:2] for image in images], [groups[number] for number in loaded])
        origins = trace_origins(
            images, runs, every=self._section.segment_every, copy_repeats=self._section.copy_repeats
        )
        keys, moves = sorted({origin.key for origin in origins}), moving(origins)
        found = dict(zip(keys, self._segment([images[key] for key in keys]), strict=True))

        def spread(values: Iterable[Any]) -> list[Any]:
            """Put what there is of each loaded frame into a column of all rows."""
            by_number = dict(zip(loaded, values, strict=True))
            return [by_number.get(number) for number in range(len(rows))]

        everywhere = range(len(images))
        made = {
            "image": pack_pixels(spread(images[place] if place in moves else None for place in everywhere)),
            "channel_sum": spread([int(value) for value in cv2.sumElems(image)[:3]] for image in images),
            "key": spread(origin.key for origin in origins),
            "like": spread(origin.like for origin in origins),
            **{
                name: pack_pixels(spread(getattr(found.get(place), name, None) for place in everywhere))
                for name in PLANES
            },
        }
        return pa.table({name: made[name] if name in made else rows[name] for name in SEGMENTED.names}, SEGMENTED)

    def _segment(self, images: list[NDArray[np.uint8]]) -> list[Segmented]:
        size = self._card.input_size
        if size is None:
            return self._segmenter.segment(images)
        found = self._segmenter.segment([resize_image(image, *size) for image in images])
        return [
            one.change(functools.partial(resize_mask, height=image.shape[0], width=image.shape[1]))
            for one, image in zip(found, images, strict=True)
        ]
