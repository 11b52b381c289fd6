"""What is seen of a few pairs: counts, values, a sample of pixels and thumbnails, made in tasks and added up.

Frequencies are of all masks that decode and fit their image; pixels of no class are counted beside them.
"""

import functools
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unet_ray.config_input import ImagesSection
from unet_ray.datasets.frames import fetch_stored
from unet_ray.errors import ImageError
from unet_ray.images.decode import decode_mask, decode_mask_colours
from unet_ray.images.repeats import find_repeats, make_thumbnail
from unet_ray.labels.classes import ClassMap
from unet_ray.labels.recovery import Recovery, name_colour, pack_colours, unpack_colours
from unet_ray.metrics import count_classes
from unet_ray.survey.tally import EMPTY, Tally, add_up, cells_of, tally_image
from unet_ray.survey.twins import THUMB_PIXELS, make_thumb

MOST_EXAMPLES = 5
SAMPLED_PIXELS = 512
THUMB = np.dtype([("row_id", np.int64), ("grey", np.uint8, THUMB_PIXELS)])
_COLOUR_INSTEAD = ("colour_mask", "lossy_mask")  # why a file is no file of ids

Key = tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Lens:
    """How pairs are looked at: by the configured labels, if any, and with which share of them to sample."""

    classes: ClassMap | None
    policy: ImagesSection
    seed: int
    sampled_share: float


@dataclass(kw_only=True, slots=True)
class Scan:
    """What was seen of some pairs.

    ``counts`` are numbers of images or pixels by what they count: ``images split``, ``masks split``, ``form
    ids|colours``, ``error code``, ``size HxW``, ``group split name``, and with labels ``class_pixels split class_id``,
    ``class_images``, ``class_image_pixels`` of the same, ``ignored_pixels split`` and ``unknown_pixels split``.
    ``examples`` are the first few ``(row_id, text)`` of errors, by code. ``samples`` are ``(position, row_id, form,
    values)`` of pixels drawn at random, in masks drawn at random. ``thumbs`` are those of the images of usable pairs,
    `THUMB`, by split.
    """

    counts: Counter[Key] = field(default_factory=Counter)
    ids: Tally = EMPTY
    colours: Tally = EMPTY
    cells: Tally = EMPTY
    examples: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    samples: list[tuple[float, int, str, list[int]]] = field(default_factory=list)
    thumbs: dict[str, NDArray[np.void]] = field(default_factory=dict)

    @property
    def form(self) -> Literal["ids", "colours"]:
        """What most masks are files of."""
        return "ids" if self.counts["form", "ids"] >= self.counts["form", "colours"] else "colours"

    def to_json(self) -> str:
        """Return the scan as `from_json` reads it."""
        return json.dumps(
            {
                "counts": [[*key, count] for key, count in sorted(self.counts.items())],
                **{name: [(t := getattr(self, name)).rows.tolist(), t.dropped] for name in ("ids", "colours", "cells")},
                **{name: getattr(self, name) for name in ("examples", "samples")},
                "thumbs": {split: thumbs.tobytes().hex() for split, thumbs in self.thumbs.items()},
            }
        )

    @staticmethod
    def from_json(text: str) -> "Scan":
        """Return the scan that `to_json` made a text of."""
        found = json.loads(text)
        tallies = {
            name: Tally(np.array(found[name][0], np.int64).reshape(-1, 3), found[name][1])
            for name in ("ids", "colours", "cells")
        }
        return Scan(
            counts=Counter({tuple(key): count for *key, count in found["counts"]}),
            **tallies,
            examples={
                code: [(row_id, message) for row_id, message in rows] for code, rows in found["examples"].items()
            },
            samples=[(position, row_id, form, values) for position, row_id, form, values in found["samples"]],
            thumbs={split: np.frombuffer(bytes.fromhex(data), THUMB) for split, data in found["thumbs"].items()},
        )


def merge(scans: Iterable[Scan], known_colours: Sequence[int] = ()) -> Scan:
    """Add up scans, whatever their order; the exact counts of known colours are never let go."""
    total = Scan()
    thumbs: dict[str, list[NDArray[np.void]]] = {}
    for scan in scans:
        total.counts.update(scan.counts)
        total.ids = add_up((total.ids, scan.ids))
        total.colours = add_up((total.colours, scan.colours), known_colours)
        total.cells = add_up((total.cells, scan.cells))
        for code, rows in scan.examples.items():
            total.examples[code] = sorted(total.examples.get(code, []) + rows)[:MOST_EXAMPLES]
        total.samples += scan.samples
        for split, found in scan.thumbs.items():
            thumbs.setdefault(split, []).append(found)
    total.samples.sort()
    total.thumbs = {split: np.sort(np.concatenate(found), order="row_id") for split, found in sorted(thumbs.items())}
    return total


def known_colours(classes: ClassMap | None) -> tuple[int, ...]:
    """Return the colours that labels know, packed; none for labels of numbers."""
    if classes is None or classes.recovery.read != "colour":
        return ()
    return tuple(pack_colours(np.array([classes.recovery.keys], np.uint8))[0].tolist())


def scan_rows(rows: Sequence[Mapping[str, Any]], lens: Lens) -> Scan:
    """Fetch planned pairs (`schema.PLAN`) and say what is in them; what may pass is raised. Runs in tasks.

    Frames of a group that repeat the one before them are noted as ``repeated_frame``, where both are among the rows.
    """
    thumbnails: dict[str, list[tuple[int, NDArray[np.uint8]]]] = {}
    scans = []
    for row in rows:
        scan, image = _scan_row(row, lens)
        scans.append(scan)
        if image is not None and row["frame"] is not None:
            thumbnails.setdefault(row["group"], []).append((row["row_id"], make_thumbnail(image)))
    repeats = Scan()
    for seen in thumbnails.values():
        for place in find_repeats(thumbnail for _, thumbnail in seen):
            _note(repeats, "repeated_frame", seen[place][0], "the same picture as the frame before it")
    return merge([*scans, repeats], known_colours(lens.classes))


def decode_as_stored(data: bytes, policy: ImagesSection, classes: ClassMap | None) -> NDArray[Any]:
    """Decode a mask to ``(H, W)`` uint16 when it is a file of ids, and labels do not ask for colours, else to RGB.

    Raises:
        ImageError: As `decode.decode_mask_colours`.
    """
    if classes is None or classes.recovery.read == "ids":
        try:
            return decode_mask(data, policy)
        except ImageError as error:
            if error.code not in _COLOUR_INSTEAD:
                raise
    return decode_mask_colours(data, policy)


def fits(recovery: Recovery, pixels: NDArray[Any]) -> bool:
    """Tell whether pixels are what a recovery reads: ids, or colours."""
    return (recovery.read == "ids") == (pixels.ndim == 2)


def known_values(values: NDArray[np.integer], form: str, recovery: Recovery) -> NDArray[np.bool_]:
    """Tell which of ``(N,)`` ids or packed colours labels know, be it to ignore them."""
    if (recovery.read == "ids") != (form == "ids"):
        return np.zeros(len(values), bool)
    everything = replace(recovery, class_ids=(0,) * len(recovery.keys), unknown="ignore", mode_filter=1, hood=None)
    packed = values.astype(np.uint32)
    pixels = packed.astype(np.uint16)[None] if form == "ids" else unpack_colours(packed)[None]
    return np.asarray(everything.to_class_ids(pixels)[0] == 0) if len(values) else np.zeros(0, bool)


def _scan_row(row: Mapping[str, Any], lens: Lens) -> tuple[Scan, NDArray[np.uint8] | None]:
    """Return what is seen of a pair, and its image where it can be read."""
    scan, image = Scan(), None
    split = row["split"]
    scan.counts["images", split] += 1
    scan.counts["group", split, row["group"]] += 1
    try:
        decode = functools.partial(decode_as_stored, classes=lens.classes)
        pair = fetch_stored(row, decode, lens.policy)
        image = pair.image
        if pair.mask is None:
            raise ImageError("missing_mask", "no mask of this name")
    except ImageError as error:
        _note(scan, error.code, row["row_id"], error.message)
        return scan, image
    height, width = pair.mask.shape[:2]
    scan.counts["masks", split] += 1
    scan.counts["size", f"{height}x{width}"] += 1
    scan.thumbs[split] = np.array([(row["row_id"], make_thumb(pair.image))], THUMB)
    form = "ids" if pair.mask.ndim == 2 else "colours"
    scan.counts["form", form] += 1
    values = pair.mask if form == "ids" else pack_colours(pair.mask)
    tally = tally_image(values)
    if form == "ids":
        scan.ids = tally
    else:
        scan.colours, scan.cells = tally, cells_of(tally)
    if lens.classes is not None:
        _count(scan, split, row["row_id"], pair.mask, tally, lens.classes)
    digest = hashlib.sha256(f"{lens.seed}/{row['image_id']}".encode()).digest()
    position = int.from_bytes(digest[:6], "big") / 2**48
    if position < lens.sampled_share:
        places = np.random.default_rng(list(digest)).integers(0, values.size, SAMPLED_PIXELS)
        scan.samples.append((position, row["row_id"], form, values.ravel()[places].tolist()))
    return scan, image


def _count(scan: Scan, split: str, row_id: int, mask: NDArray[Any], tally: Tally, classes: ClassMap) -> None:
    """Count the classes of a mask, and the pixels of none."""
    recovery = classes.recovery
    if not fits(recovery, mask):
        _note(scan, "colour_mask", row_id, "the mask holds colours, labels.scheme is ids")
        return
    known = known_values(tally.rows[:, 0], "ids" if mask.ndim == 2 else "colours", recovery)
    unknown = tally.rows[~known]
    if len(unknown):
        scan.counts["unknown_pixels", split] += int(unknown[:, 1].sum())
        most = unknown[np.argsort(-unknown[:, 1], kind="stable")[:MOST_EXAMPLES]]
        name = str if mask.ndim == 2 else name_colour
        named = ", ".join(f"{name(value)} ({pixels} px)" for value, pixels, _ in most.tolist())
        _note(scan, "unknown_value", row_id, named)
    class_ids = replace(recovery, unknown="ignore").to_class_ids(mask)
    pixels, ignored = count_classes(class_ids, classes.num_classes)
    scan.counts["ignored_pixels", split] += ignored - int(unknown[:, 1].sum())
    for class_id in np.flatnonzero(pixels).tolist():
        scan.counts["class_pixels", split, str(class_id)] += int(pixels[class_id])
        scan.counts["class_images", split, str(class_id)] += 1
        scan.counts["class_image_pixels", split, str(class_id)] += class_ids.size


def _note(scan: Scan, code: str, row_id: int, message: str) -> None:
    scan.counts["error", code] += 1
    scan.examples.setdefault(code, []).append((row_id, message))


def class_counts(scan: Scan, what: str, split: str, num_classes: int) -> list[int]:
    """Return the counts of a kind, by class_id."""
    found: dict[int, int] = defaultdict(int)
    for key, count in scan.counts.items():
        if key[:2] == (what, split):
            found[int(key[2])] = count
    return [found[class_id] for class_id in range(num_classes)]
