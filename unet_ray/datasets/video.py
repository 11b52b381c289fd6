"""Videos as a layout: one row for each frame that is taken, and such rows read again."""

import functools
import math
import re
from collections.abc import Iterator, Mapping
from itertools import count, takewhile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_ray import storage
from unet_ray.config import Config
from unet_ray.config_input import ImagesSection, VideoSection
from unet_ray.datasets.listing import Examples, Listing, Row
from unet_ray.datasets.names import natural_key
from unet_ray.errors import ChangedError, DatasetError, ImageError, NotFoundError, UnetRayError
from unet_ray.images.video import Video, VideoFacts, is_video
from unet_ray.object_file import ObjectFile
from unet_ray.storage import ObjectInfo

_MASK_NAME = re.compile(r"(\d{1,18})\.png", re.IGNORECASE)


def add_video(listing: Listing, root: str, config: Config, masks_uri: str | None = None) -> None:
    """Add the frames of a video, or of all videos under a folder, as ``video`` of the configuration says.

    A row is a frame: its image_id is ``<key>#<index>``, its group the key, its frame and frame_index the index of the
    frame in the file, from 0. Frame rates and times are the header's; where frames are not evenly spaced, times are
    those of its mean rate. A video that cannot be read is one row without a frame_index, which becomes a quarantined
    row with the reason; one that ends before the range starts is counted as skipped.

    Masks are sparse as a rule: the true mask of frame 120 of ``day/a.mp4`` is ``day/a/120.png`` under the folder of
    masks, with any number of leading zeros, and a frame without one keeps its row. FFmpeg numbers the frames it
    writes from 1, which is one more than their index. The masks of one video are listed in memory, rows are not.

    Args:
        listing: Where to add the rows; an empty one.
        root: URI of a video or of a folder, read at any depth.
        config: The experiment.
        masks_uri: Folder of the masks; None takes ``data.masks`` beside the video or under the folder.

    Raises:
        DatasetError: There is no video, none that can be read, or no frame in the range.
    """
    if masks_uri is None and config.data.masks is not None:
        masks_uri = f"{root.rpartition('/')[0] or '.' if is_video(root) else root}/{config.data.masks}"
    others = Examples()
    videos = _videos_at(root, masks_uri, others)
    if not videos:
        found = f"{others.count} other objects, such as {others.uris[0]}" if others.count else "nothing"
        raise DatasetError(f"0 videos under {root}: it holds {found}; MP4, MOV, AVI, MKV and WebM files are read")
    listing.skipped.update(others)
    faults: list[UnetRayError] = []
    listing.add_list(_rows(videos, masks_uri, config, faults, listing.skipped), root)
    if listing.num_rows == len(faults):
        why = f"the first fault is {faults[0]}" if faults else "check video.start_s, which is in seconds"
        raise DatasetError(f"0 frames taken from {len(videos)} videos at {root}; {why}")


def frames_taken(facts: VideoFacts, section: VideoSection) -> Iterator[int]:
    """Yield the indices of the frames to take from a video, ascending and each once."""

    def first_at(seconds: float) -> int:
        return math.ceil(seconds * facts.fps - 1e-6)

    end = facts.frames if section.end_s is None else min(facts.frames, first_at(section.end_s))
    step = section.every if section.fps is None else max(1.0, facts.fps / section.fps)
    indices = (first_at(section.start_s) + round(number * step) for number in count())
    return takewhile(lambda index: index < end, indices)


def read_video_frame(row: Mapping[str, Any], policy: ImagesSection) -> NDArray[np.uint8]:
    """Return the frame of a planned row as ``(H, W, 3)`` uint8 RGB; the video stays open for the rows that follow.

    Raises:
        ImageError: missing_image, changed_image, what `Video` says of the file, or missing_frame.
    """
    try:
        video = _open_planned(row["image_uri"], row.get("image_etag"), policy.max_pixels)
        if row["frame_index"] is None:
            raise ImageError("missing_frame", "the row names no frame of the video; data.layout: video does")
        return video.read(row["frame_index"])
    except ImageError:
        raise
    except NotFoundError as error:
        raise ImageError("missing_image", str(error)) from None
    except ChangedError as error:
        raise ImageError("changed_image", str(error)) from None
    except BaseException:
        _open_planned.cache_clear()  # its decoder took the fault for the end of the file
        raise


@functools.lru_cache(maxsize=1)
def _open_planned(uri: str, etag: str | None, max_pixels: int) -> Video:
    info = storage.look_up(uri)
    if etag not in (None, info.etag):
        raise ChangedError(f"could not read {uri}: the file changed since it was listed")
    return Video(ObjectFile(info), max_pixels)


def _videos_at(root: str, masks_uri: str | None, others: Examples) -> list[ObjectInfo]:
    """Return the videos in natural order, and count the other objects that are no masks."""
    try:
        if is_video(root):
            return [storage.look_up(root)]
        videos = []
        for item in storage.list_objects(root):
            if is_video(item.key):
                videos.append(item)
            elif masks_uri is None or not item.uri.startswith(f"{masks_uri}/"):
                others.add(item.uri)
        return sorted(videos, key=_order)
    except NotFoundError:
        raise DatasetError(f"{root}: no such video or folder; check data.root or predict.images") from None


def _order(video: ObjectInfo) -> bytes:
    try:
        return natural_key(video.key)
    except UnicodeEncodeError:
        raise DatasetError(f"{video.uri!a}: the name is not UTF-8, so no table can hold it; rename the file") from None


def _rows(
    videos: list[ObjectInfo], masks_uri: str | None, config: Config, faults: list[UnetRayError], skipped: Examples
) -> Iterator[Row]:
    for video in videos:
        row: Row = {
            "image_id": video.key,
            "image_uri": video.uri,
            "image_etag": video.etag,
            "image_bytes": video.size_bytes,
            "mask_uri": None,
            "group": video.key,
            "frame": None,
            "split": "",
        }
        try:
            facts = Video(ObjectFile(video), config.images.max_pixels).facts
        except (ImageError, NotFoundError, ChangedError) as error:
            faults.append(error)
            yield row
            continue
        if next(frames_taken(facts, config.video), None) is None:
            skipped.add(video.uri)  # it ends before video.start_s
        masks = {} if masks_uri is None else _masks_of(video, masks_uri)
        for index in frames_taken(facts, config.video):
            yield row | masks.get(index, {}) | {
                "image_id": f"{video.key}#{index}", "frame_index": index, "frame": index
            }  # fmt: skip


def _masks_of(video: ObjectInfo, masks_uri: str) -> dict[int, Row]:
    masks = {}
    try:
        for item in storage.list_objects(f"{masks_uri}/{video.key.rpartition('.')[0]}"):
            match = _MASK_NAME.fullmatch(item.key)
            if match:
                masks[int(match[1])] = {
                    "mask_uri": item.uri, "mask_etag": item.etag, "mask_bytes": item.size_bytes
                }  # fmt: skip
    except NotFoundError:
        return {}
    return masks
