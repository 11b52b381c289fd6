"""The figures: learning curves as SVG, frames and masks as data URIs."""

import io
from collections.abc import Mapping
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image

from unet_ray.calibration import Calibration
from unet_ray.html.pictures import drawing_uri, mask_uri, photo_uri, shrink_image, shrink_mask
from unet_ray.report.content import Colour, History, Panel, epochs, series
from unet_ray.schema import IGNORE_INDEX

WRONG_COLOUR: Colour = (229, 20, 90)
UNSURE_COLOUR: Colour = (84, 39, 143)

_GREY_LEVELS = 64
_CONFIDENCE_LEVELS = 8
_CONFIDENCE_PX = 240  # it is smooth, and would be the largest of all pictures
_RAMP = np.array([(214, 66, 12), (244, 226, 180), (37, 99, 201)])  # from the lowest to the highest value of a strip
_UNKNOWN: Colour = (150, 156, 166)

# Title, the history keys with their labels, and the limits of the y axis (None: as the data has it).
_PLOTS: tuple[tuple[str, dict[str, str], tuple[float | None, float | None]], ...] = (
    ("Loss", {"train_loss": "train", "val_loss": "validation"}, (None, None)),
    ("Validation score", {"miou": "mIoU", "pixel_accuracy": "pixel accuracy"}, (0, 1)),
    ("Learning rate", {"lr": "learning rate"}, (0, None)),
    ("Throughput, samples/s", {"samples_per_s": "samples/s"}, (0, None)),
)

# Mid-tones, which read on white and on black alike; the page may restyle the text, which stays text.
_INK = "#7c8593"
_LINES = ("#3b82f6", "#f08c00")
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "unet-ray",
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.15,
    "figure.constrained_layout.h_pad": 0.12,
    "font.size": 9,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "axes.labelcolor": _INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlepad": 10,
    "axes.edgecolor": _INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": _INK,
    "grid.alpha": 0.25,
    "lines.linewidth": 1.8,
    "lines.markersize": 3.5,
    "legend.frameon": False,
}


class PanelUris(NamedTuple):
    """The pictures of a panel as data URIs; None where there is no truth, or no stored confidence, to draw."""

    image: str
    truth: str | None
    prediction: str
    error: str | None
    confidence: str | None


def curves_svg(history: History) -> str:
    """Draw loss, validation score, learning rate and throughput over the epochs as one SVG element.

    Missing, None and non-finite values are left out and the line joins their neighbours, as when validation
    runs every few epochs; a plot without any value says "not recorded". The same history gives the same
    bytes. The background is transparent.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(11, 5.6))
        for axes, (title, labels, limits) in zip(figure.subplots(2, 2).flat, _PLOTS, strict=True):
            _draw_plot(axes, history, labels)
            axes.set_title(title)
            axes.set_ylim(*limits)
        return _svg(figure)


def reliability_svg(calibration: Calibration) -> str:
    """Draw the share of right pixels of each bin of confidence, and its share of all, as one SVG element.

    As `curves_svg` does; there must be labelled pixels. On the dashed diagonal confidence is what it says.
    """
    bins = [one for one in calibration.bins if one.pixels]
    confidence = [one.confidence for one in bins]
    pixels = np.array([one.pixels for one in bins])
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(11, 3.6))
        right, all_pixels = figure.subplots(1, 2)
        right.plot([0, 1], [0, 1], color=_INK, linestyle="--", linewidth=1)
        right.plot(confidence, [one.accuracy for one in bins], color=_LINES[0], marker="o")
        right.set_title("Share of pixels that are right")
        all_pixels.bar(confidence, pixels / pixels.sum(), width=0.8 / len(calibration.bins), color=_LINES[0])
        all_pixels.set_title("Share of all labelled pixels")
        for axes in (right, all_pixels):
            axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="confidence")
        return _svg(figure)


def panel_data_uris(panel: Panel, palette: Mapping[int, Colour]) -> PanelUris:
    """Encode a panel for a page: the image as JPEG, the masks in their palette and the error map as PNG.

    ``palette`` maps class ids to RGB; a class without a colour is black. Ignored pixels are transparent, so
    that no class colour can be mistaken for them. The error map shows the image in pale grey and each wrong
    pixel in ``WRONG_COLOUR``; the confidence map goes from white, which is sure, to ``UNSURE_COLOUR``. Pictures longer
    than 480 px are shrunk, the confidence map to 240 px.
    """
    image, pred_mask = shrink_image(panel.image), shrink_mask(panel.pred_mask)
    truth = error = None
    if panel.true_mask is not None:
        true_mask = shrink_mask(panel.true_mask)
        truth = mask_uri(true_mask, palette)
        error = _error_png(image, true_mask, pred_mask)
    confidence = None if panel.confidence_map is None else _confidence_png(panel.confidence_map)
    return PanelUris(photo_uri(image), truth, mask_uri(pred_mask, palette), error, confidence)


def strip_uri(values: NDArray[np.float64], low: float, high: float) -> str:
    """Draw ``(C,)`` values as a PNG of one row, in colours from that of ``low`` to that of ``high``; NaN is grey."""
    shares = (values - low) / (high - low) if high > low else np.where(np.isnan(values), np.nan, 1.0)
    stops = np.linspace(0, 1, len(_RAMP))
    colours = np.stack([np.interp(shares, stops, channel) for channel in _RAMP.T], axis=-1)
    return drawing_uri(np.where(np.isnan(shares)[:, None], _UNKNOWN, colours).astype(np.uint8)[None])


def error_share(panel: Panel) -> float | None:
    """Return the share of labelled pixels that are predicted wrong, None without truth or labelled pixels."""
    if panel.true_mask is None:
        return None
    labelled = panel.true_mask != IGNORE_INDEX
    if not labelled.any():
        return None
    return float((panel.true_mask != panel.pred_mask)[labelled].mean())


def _svg(figure: Figure) -> str:
    svg = io.StringIO()
    unsigned = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(svg, format="svg", transparent=True, metadata=unsigned)
    document = svg.getvalue()
    return document[document.index("<svg") :]


def _draw_plot(axes: Axes, history: History, labels: Mapping[str, str]) -> None:
    x = epochs(history)
    for colour, (key, label) in zip(_LINES, labels.items(), strict=False):
        y = series(history, key)
        known = ~np.isnan(y)
        if known.any():
            axes.plot(x[known], y[known], color=colour, marker="o" if known.sum() <= 30 else "", label=label)
    if not axes.lines:
        axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", va="center")
        axes.set(xticks=[], yticks=[])
        return
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.yaxis.set_major_formatter("{x:g}")
    if len(labels) > 1:
        axes.legend()


def _confidence_png(confidence: NDArray[np.uint8]) -> str:
    shades = np.linspace(UNSURE_COLOUR, (255, 255, 255), _CONFIDENCE_LEVELS).astype(int).tolist()
    palette: dict[int, Colour] = {level: (r, g, b) for level, (r, g, b) in enumerate(shades)}
    return mask_uri(shrink_image(confidence, _CONFIDENCE_PX) // (256 // _CONFIDENCE_LEVELS), palette)


def _error_png(image: NDArray[np.uint8], true_mask: NDArray[np.uint8], pred_mask: NDArray[np.uint8]) -> str:
    grey = np.asarray(Image.fromarray(image).convert("L")) // (256 // _GREY_LEVELS)
    labelled = np.where(true_mask == pred_mask, grey, np.uint8(_GREY_LEVELS))
    indices = np.where(true_mask == IGNORE_INDEX, np.uint8(IGNORE_INDEX), labelled)
    pale = np.linspace(96, 255, _GREY_LEVELS).astype(int).tolist()
    palette: dict[int, Colour] = {level: (value, value, value) for level, value in enumerate(pale)}
    return mask_uri(indices, palette | {_GREY_LEVELS: WRONG_COLOUR})
