"""A ``labels`` section under which every pixel of the scanned masks has a class or is ignored."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from unet_ray.config_file import plain_values
from unet_ray.config_input import MOST_CLASSES, LabelsSection
from unet_ray.labels.classes import ClassMap
from unet_ray.labels.presets import PRESETS
from unet_ray.labels.recovery import unpack_colours
from unet_ray.labels.scheme import make_class_map
from unet_ray.schema import IGNORE_INDEX
from unet_ray.survey.scan import Scan, known_values
from unet_ray.survey.schemes import find_peaks, fit_preset, fit_preset_to_lossy
from unet_ray.survey.tally import Tally, add_up

_GOOD_SHARE = 0.99  # configured labels that explain this much are kept
_MOST_LISTED = 16
_SMOOTH = 3  # px, the mode filter that clears the edges of lossy masks


class Suggestion(NamedTuple):
    """Values of the ``labels`` section, and the reason for them in a sentence."""

    labels: dict[str, Any]
    reason: str

    @property
    def section(self) -> LabelsSection:
        """The values as a section."""
        return TypeAdapter(LabelsSection).validate_python(self.labels)


def suggest(scan: Scan, labels: LabelsSection, classes: ClassMap | None) -> Suggestion | None:
    """Suggest labels for what most of the masks are, files of ids or of colours; None when no mask was read.

    Configured labels that explain 99 % of the pixels are kept, and what they do not know is ignored. Otherwise a preset
    that fits is taken, or a class is made of every value; of lossy colours, of every colour that others lie around.
    """
    form = scan.form
    tally = scan.ids if form == "ids" else add_up((scan.colours, _as_colours(scan.ids)))
    if not tally.pixels:
        return None
    if classes is not None and (classes.recovery.read == "ids") == (form == "ids"):
        unknown = sum(count for key, count in scan.counts.items() if key[0] == "unknown_pixels")
        share = 1 - unknown / tally.pixels
        if share >= _GOOD_SHARE:
            usual = plain_values(asdict(LabelsSection()))
            kept = {key: value for key, value in plain_values(asdict(labels)).items() if value != usual[key]}
            reason = f"the configured labels explain {share:.2%} of the pixels"
            if unknown and classes.recovery.read not in ("ids", "colour"):
                return Suggestion({**kept, "unknown": "ignore"}, f"{reason}, the rest is ignored")
            return _ignore(kept, _unknown(tally, form, classes), tally, reason) if unknown else Suggestion(kept, reason)
    if form == "ids":
        return _from_ids(tally, {"scheme": "ids"})
    if not tally.dropped:
        colours = unpack_colours(tally.rows[:, 0].astype(np.uint32))
        for place, channel in enumerate(("red", "green", "blue")):
            others = np.delete(colours, place, axis=1)
            if not others.any() and len(colours) > 1:
                rows = tally.rows.copy()
                rows[:, 0] = colours[:, place]
                return _from_ids(Tally(rows), {"scheme": "channel", "channel": channel})
        if len(colours) <= MOST_CLASSES:
            return _from_colours(tally, colours)
    return _from_lossy(sample_of(scan, "colours"))


def sample_of(scan: Scan, form: str) -> NDArray[np.uint8]:
    """Return the sampled pixels of masks of colours, ``(N, 3)`` RGB."""
    values = [value for _, _, found, values in scan.samples if found == form for value in values]
    return unpack_colours(np.array(values, np.uint32))


def _from_ids(tally: Tally, how: Mapping[str, Any]) -> Suggestion:
    values, pixels = tally.rows[:, 0].tolist(), tally.rows[:, 1].tolist()
    fit = fit_preset(values, pixels)
    if fit is not None:
        suggestion = {"preset": fit.preset, **how}
        strange = _unknown(tally, "ids", _class_map(fit.preset, "ids"))
        return _ignore(suggestion, strange, tally, f"preset {fit.preset} explains {fit.share:.2%} of the pixels")
    ignored = [IGNORE_INDEX] if IGNORE_INDEX in values and len(values) > 2 else []
    most = sorted(range(len(values)), key=lambda place: -pixels[place])
    kept = sorted(values[place] for place in most[: MOST_CLASSES + len(ignored)] if values[place] not in ignored)
    suggestion = {"classes": [f"class_{value}" for value in kept], **how, "ignore_ids": ignored}
    if kept != list(range(len(kept))):
        suggestion["values"] = kept
    left = len(values) - len(kept) - len(ignored)
    if left or tally.dropped:
        suggestion["unknown"] = "ignore"
    return Suggestion(suggestion, f"a class for each of {len(kept)} values found")


def _from_colours(tally: Tally, colours: NDArray[np.uint8]) -> Suggestion:
    known = [(int(red), int(green), int(blue)) for red, green, blue in colours]
    fit = fit_preset(known, tally.rows[:, 1].tolist())
    if fit is not None:
        suggestion = {"preset": fit.preset, "scheme": "colours"}
        strange = _unknown(tally, "colours", _class_map(fit.preset, "colours"))
        reason = f"the colours of preset {fit.preset} explain {fit.share:.2%} of the pixels"
        return _ignore(suggestion, strange, tally, reason)
    return _from_palette(known, {"max_distance": 0}, f"a class for each of {len(known)} colours found, which are exact")


def _from_lossy(pixels: NDArray[np.uint8]) -> Suggestion:
    how = {"max_distance": "any", "mode_filter": _SMOOTH}
    fit = fit_preset_to_lossy(pixels)
    if fit is not None:
        same = [name for name, preset in PRESETS.items() if preset.labels == PRESETS[fit.preset].labels]
        also = f" (so do {', '.join(same[1:])}, which group its labels)" if len(same) > 1 else ""
        reason = (
            f"the colours are lossy; {fit.share:.2%} of the sampled pixels are near one of preset {fit.preset}{also}"
        )
        return Suggestion({"preset": fit.preset, "scheme": "colours", **how}, reason)
    peaks = find_peaks(pixels)[:MOST_CLASSES]
    return _from_palette(peaks, how, f"the colours are lossy; a class for each of {len(peaks)} that others lie around")


def _from_palette(colours: list[tuple[int, int, int]], how: Mapping[str, Any], reason: str) -> Suggestion:
    names = [f"class_{number}" for number in range(len(colours))]
    return Suggestion({"classes": names, "palette": [list(c) for c in colours], "scheme": "colours", **how}, reason)


def _ignore(labels: dict[str, Any], strange: NDArray[np.int64], tally: Tally, reason: str) -> Suggestion:
    """Return labels that ignore values strange to them: one by one where they are few and we know them all."""
    if not len(strange) and not tally.dropped:
        return Suggestion(labels, reason)
    section = Suggestion(labels, reason).section
    reason = f"{reason}, the rest is ignored"
    if len(strange) > _MOST_LISTED or tally.dropped:
        return Suggestion({**labels, "unknown": "ignore"}, reason)
    if section.scheme == "colours":
        colours = unpack_colours(strange[:, 0].astype(np.uint32)).tolist()
        return Suggestion({**labels, "ignore_colours": [*map(list, section.ignore_colours), *colours]}, reason)
    given = section.ignore_ids
    if given is None:
        given = PRESETS[section.preset].ignore_ids if section.preset else (IGNORE_INDEX,)
    return Suggestion({**labels, "ignore_ids": sorted({*given, *strange[:, 0].tolist()})}, reason)


def _class_map(preset: str, scheme: str) -> ClassMap:
    return make_class_map(Suggestion({"preset": preset, "scheme": scheme}, "").section)


def _as_colours(ids: Tally) -> Tally:
    """Return what files that could be ids hold when they are read as colours: all their channels are equal."""
    rows = ids.rows[ids.rows[:, 0] < 256]
    return Tally(rows * (0x010101, 1, 1))


def _unknown(tally: Tally, form: str, classes: ClassMap) -> NDArray[np.int64]:
    return tally.rows[~known_values(tally.rows[:, 0], form, classes.recovery)]
