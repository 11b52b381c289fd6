"""Frames that follow each other: which of them are segmented, whose mask the others take, and votes over time.

Over the frames of a unit and, for votes, some of its neighbours: so all of it is decided by the plan. Only frames of
one group and one size have to do with each other. Runs in prediction actors: `trace_origins` before the network,
`complete` behind it, in any number of threads.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby, pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from unet_ray.images.repeats import LARGEST_REPEAT_DISTANCE, frame_distance, make_thumbnail
from unet_ray.model.segmented import Plane, Segmented

Image = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the mask of a frame comes from, as positions among the frames that were given.

    ``key`` is the frame that is segmented, ``like`` the first of those that show the same: the frame itself unless it
    repeats one. A frame whose ``like`` is not its ``key`` takes the key's mask along optical flow.
    """

    key: int
    like: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """What became of a frame: its planes, the position of the frame that was segmented for it, and the mask before.

    ``before`` is the mask of the frame before it in its run; None for the first one.
    """

    found: Segmented
    key: int
    before: Plane | None


def complete(
    origins: Sequence[Origin],
    runs: Sequence[range],
    segmented: Mapping[int, Segmented],
    images: Sequence[Image],
    *,
    smooth_frames: int,
    num_classes: int,
) -> list[Seen]:
    """Return what becomes of all frames, from what was made of those that were segmented.

    Args:
        origins: Of each frame (`trace_origins`).
        runs: Which frames follow each other (`find_runs`).
        segmented: What was made of some of them, by position.
        images: ``(H, W, 3)`` uint8 RGB frames.
        smooth_frames: How many frames before and after each one vote (`vote`); 0 for none.
        num_classes: K.
    """
    found: list[Segmented] = []
    for position, origin in enumerate(origins):
        if origin.like != position:
            found.append(found[origin.like])
        elif origin.key != position:
            motion = find_motion(images[position], images[origin.key])
            found.append(segmented[origin.key].change(partial(follow_motion, motion=motion)))
        else:
            found.append(segmented[position])
    if smooth_frames:
        for run in runs:
            masks = vote([found[position].mask for position in run], smooth_frames, num_classes)
            for position, mask in zip(run, masks, strict=True):
                found[position] = replace(found[position], mask=mask)
    before = {position: found[last].mask for run in runs for last, position in pairwise(run)}
    return [
        Seen(found=one, key=origin.key, before=before.get(position))
        for position, (one, origin) in enumerate(zip(found, origins, strict=True))
    ]


def find_runs(images: Sequence[Image], groups: Sequence[str]) -> list[range]:
    """Cut frames into runs of one group and size; a frame without a group (``""``) is a run of its own."""
    runs, first = [], 0
    names = [
        (group, image.shape) if group else number
        for number, (group, image) in enumerate(zip(groups, images, strict=True))
    ]
    for _, members in groupby(names):
        runs.append(range(first, first := first + len(list(members))))
    return runs


def trace_origins(images: Sequence[Image], runs: Sequence[range], *, every: int, copy_repeats: bool) -> list[Origin]:
    """Return the origin of the mask of each frame.

    Args:
        images: ``(H, W, 3)`` uint8 RGB frames.
        runs: Which of them follow each other, in order.
        every: One frame in so many of a run is segmented; the others take the mask of the nearest one that is, of two
            equally near ones that of the first.
        copy_repeats: Whether a frame that shows what the one before shows takes its mask.
    """
    origins = []
    for run in runs:
        like = list(_find_first_of_repeats(images, run)) if copy_repeats and len(run) > 1 else list(run)
        fresh = sorted(set(like))
        nearest = {
            frame: fresh[min((number + (every - 1) // 2) // every * every, (len(fresh) - 1) // every * every)]
            for number, frame in enumerate(fresh)
        }
        origins += [Origin(key=nearest[first], like=first) for first in like]
    return origins


def _find_first_of_repeats(images: Sequence[Image], run: range) -> Iterator[int]:
    """Yield for each frame of a run the first one that it repeats, or itself; each is held to the last new one."""
    first, shown = run.start, make_thumbnail(images[run.start])
    for frame in run:
        thumbnail = make_thumbnail(images[frame])
        if frame_distance(shown, thumbnail) > LARGEST_REPEAT_DISTANCE:
            first, shown = frame, thumbnail
        yield first


def find_motion(image: Image, other: Image) -> NDArray[np.float32]:
    """Return ``(2, H, W)`` float32: the x and y of each pixel of a frame in another one, in px.

    Dense inverse search (Kroeger et al., ECCV 2016), in its fast setting of OpenCV. On one thread: its stripes, and so
    its result, follow the number of threads. Where several call this at a time, OpenCV has one thread already.
    """
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        grey, other_grey = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (image, other))
        flow = search.calc(grey, other_grey, np.empty(0, np.float32))
    finally:
        cv2.setNumThreads(threads)
    rows, columns = (np.arange(side, dtype=np.float32) for side in image.shape[:2])
    return np.stack([flow[..., 0] + columns, flow[..., 1] + rows[:, None]])


def follow_motion(plane: Plane, motion: NDArray[np.float32]) -> Plane:
    """Return an ``(H, W)`` uint8 plane of the other frame of `find_motion` as it would be in the frame itself."""
    x, y = motion
    moved = cv2.remap(plane, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.uint8)


def vote(masks: Sequence[Plane], reach: int, num_classes: int) -> list[Plane]:
    """Give each pixel of the masks of a run the class that most of the neighbouring masks have there.

    Args:
        masks: ``(H, W)`` uint8 class ids.
        reach: How many masks before and after each one vote, with it; fewer at the ends.
        num_classes: K.

    Returns:
        A mask for each. A pixel keeps its class where no other has more votes; else the first of those with most wins.
    """
    votes = [np.zeros(masks[0].shape, np.uint8) for _ in range(num_classes)]
    results = []
    for position in range(-reach, len(masks)):
        if position + reach < len(masks):
            for class_id, counts in enumerate(votes):
                counts += masks[position + reach] == class_id
        if position >= 0:
            results.append(_elect(masks[position], votes))
        if position >= reach:
            for class_id, counts in enumerate(votes):
                counts -= masks[position - reach] == class_id
    return results


def _elect(mask: Plane, votes: Sequence[Plane]) -> Plane:
    most = np.maximum.reduce(votes)
    elected = np.empty_like(mask)
    keeps = np.zeros(mask.shape, bool)
    for class_id in reversed(range(len(votes))):
        leads = votes[class_id] == most
        elected[leads] = class_id
        keeps |= leads & (mask == class_id)
    return np.where(keeps, mask, elected)
