"""The files and prints that small U-Net projects leave, for who compares with them or has scripts that read them.

The print of classes with its 52 underscores is that of a U-Net for Cityscapes in TensorFlow, the other print that of
UNet-keras for PASCAL VOC; names of pictures are theirs and those of three more. Numbers are ours: of all frames,
without pixels that have no label.
"""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from unet_ray import storage
from unet_ray.config_training import ModelSection
from unet_ray.images.paint import blend, paint
from unet_ray.metrics import Scores
from unet_ray.report.content import Colour, History, Panel, epochs, series
from unet_ray.schema import IGNORE_INDEX

Picture = NDArray[np.uint8]

_EXAMPLES = 3
_SHOWN_DPI, _SAVED_DPI = 150, 300
_KERAS_NAMES = {"loss": "train_loss", "val_accuracy": "pixel_accuracy", "val_miou": "miou", "lr": "lr"}


def write_classic(
    folder: str,
    history: History,
    panels: Sequence[Panel],
    scores: Scores,
    palette: Sequence[Colour],
    job: Mapping[str, Any] | None = None,
    model: ModelSection | None = None,
) -> int:
    """Write the files to a folder and return their number; those of masks only where frames have truth.

    Args:
        folder: URI of the folder.
        history: Rows of the training, without any of which there are no curves.
        panels: Frames to show; three with truth are.
        scores: Of all frames.
        palette: Colour of each class.
        job: What the last prediction measured (`job_record.read_job`).
        model: The network, to be drawn at the size of the first panel.
    """
    written = 0
    files = chain(_files(history, panels, scores, palette), _measured(history, job), _drawn(model, panels, palette))
    for name, data in files:
        storage.write(f"{folder}/{name}", data)
        written += 1
    return written


def print_classes(scores: Scores) -> str:
    """Return the counts of each class and the mean IoU, as the Cityscapes project prints them.

    A class that occurs nowhere has ``IoU=-``, and a mean of none is ``-``.
    """
    lines = [
        f"class {class_id:02d}:  # TP={one.tp:6d}, #FP={one.fp:6d}, #FN={one.fn:5d}, IoU={_ratio(one.iou, 3)}"
        for class_id, one in enumerate(scores.classes)
    ]
    return "\n".join([*lines, "_" * 52, f"Mean IoU: {_ratio(scores.miou, 3)}"])


def print_scores(scores: Scores) -> str:
    """Return the mean scores and the IoU of each class, ``nan`` where undefined, as the VOC project prints them."""
    ious = np.array([np.nan if one.iou is None else one.iou for one in scores.classes])
    return "\n".join(
        [
            "-" * 80,
            f"Total MIOU: {_ratio(scores.miou, 4)}",
            f"Object MIOU: {_ratio(scores.object_miou, 4)}",
            f"pixel acc: {_ratio(scores.pixel_accuracy, 4)}",
            f"IOU: {np.array2string(ious, precision=8, suppress_small=True, max_line_width=75)}",
        ]
    )


def print_benchmark(history: History, job: Mapping[str, Any] | None) -> str:
    """Return how long training and prediction took, as the benchmark of the K-Means project lists it.

    Training counts every epoch that was kept, prediction the last run; empty where nothing was measured.
    """
    seconds, rates = series(history, "seconds"), series(history, "samples_per_s")
    train_s = seconds - np.nan_to_num(series(history, "validation_s"))
    known = ~np.isnan(rates) & (train_s > 0)
    lines = []
    if known.any():
        images, only_s = float((rates * train_s)[known].sum()), float(train_s[known].sum())
        lines += [
            f"Total time: {np.nansum(seconds) / 60:.1f} min (epochs: {np.count_nonzero(known)}, with validation)",
            f"Training only: {only_s / 60:.1f} min, {images / only_s:.1f} img/s",
        ]
    if job is not None and job["rows"]:
        lines += [
            f"Prediction: {job['rows']} images in {job['seconds']:.1f} s, {job['rows_per_s']:.1f} img/s",
            f"1 prediction: {1000 * job['stages']['infer']['seconds'] / job['rows']:.1f} ms in the network",
        ]
    return "\n".join(lines)


def keras_history(history: History) -> Mapping[str, list[float | None]]:
    """Return the history as ``History.history`` of Keras: a list for each number, null where it was not measured."""
    return {
        name: [None if np.isnan(value) else value for value in series(history, key).tolist()]
        for name, key in _KERAS_NAMES.items()
    }


def _files(
    history: History, panels: Sequence[Panel], scores: Scores, palette: Sequence[Colour]
) -> Iterator[tuple[str, bytes]]:
    if scores.pixel_accuracy is not None:
        yield "classes.txt", f"{print_classes(scores)}\n".encode()
        yield "evaluation.txt", f"{print_scores(scores)}\n".encode()
    if history:
        yield "history.json", json.dumps(keras_history(history)).encode()
        loss, accuracy = ("Training loss", "train_loss"), ("Validation accuracy", "pixel_accuracy")
        yield "acc.png", _curves(history, (loss, accuracy), _SHOWN_DPI)
        yield "metrics.png", _curves(history, (accuracy, loss), _SHOWN_DPI)
        yield "Loss_curve.png", _curves(history, (loss,), _SAVED_DPI)
        yield "Accuracy_curve.png", _curves(history, (accuracy,), _SAVED_DPI)
    shown = [panel for panel in panels if panel.true_mask is not None][:_EXAMPLES]
    if not shown:
        return
    photos = [panel.image for panel in shown]
    truths = [panel.true_mask for panel in shown if panel.true_mask is not None]
    predicted = [paint(panel.pred_mask, palette) for panel in shown]
    true = [paint(mask, palette) for mask in truths]
    yield "prediction.png", _grid({"Original": photos, "Predicted": predicted, "True": true})
    yield "Predictions.png", _grid({"Original": photos, "Mask": true, "Prediction": predicted})
    yield "example_org-mask-label.png", _grid({"Original": photos, "Mask": true, "Label": [*map(_grey, truths)]})
    yield "output.png", _grid({"Input image": photos[:1], "True mask": true[:1], "Predicted mask": predicted[:1]})
    blended = {
        "Prediction": [blend(photos[0], shown[0].pred_mask, palette)],
        "Truth": [blend(photos[0], truths[0], palette)],
    }
    yield "pred_1.png", _grid(blended)


def _measured(history: History, job: Mapping[str, Any] | None) -> Iterator[tuple[str, bytes]]:
    if text := print_benchmark(history, job):
        yield "benchmark.txt", f"{text}\n".encode()


def _drawn(
    model: ModelSection | None, panels: Sequence[Panel], palette: Sequence[Colour]
) -> Iterator[tuple[str, bytes]]:
    if model is not None and panels:
        from unet_ray.architecture.run import draw  # they need torch, which nothing else of a report does
        from unet_ray.architecture.trace import trace

        yield "model_arch.png", draw(model, trace(model, len(palette), panels[0].pred_mask.shape))[0]


def _curves(history: History, plots: Sequence[tuple[str, str]], dpi: int) -> bytes:
    with mpl.rc_context({"axes.grid": True, "grid.alpha": 0.3, "figure.constrained_layout.use": True}):
        figure = Figure(figsize=(5.5 * len(plots), 4))
        for axes, (title, key) in zip(np.atleast_1d(figure.subplots(1, len(plots))), plots, strict=True):
            values = series(history, key)
            known = ~np.isnan(values)
            axes.plot(epochs(history)[known], values[known], marker="o" if known.sum() <= 30 else "")
            axes.set(title=title, xlabel="epoch")
        return _png(figure, dpi)


def _grid(columns: Mapping[str, Sequence[Picture]]) -> bytes:
    """Return pictures in columns with a title each."""
    rows = [*zip(*columns.values(), strict=True)]
    height, width = rows[0][0].shape[:2]
    with mpl.rc_context({"figure.constrained_layout.use": True}):
        figure = Figure(figsize=(3.2 * len(columns), 0.3 + 3.2 * len(rows) * min(2.0, height / width)))
        places = np.array(figure.subplots(len(rows), len(columns))).reshape(len(rows), len(columns))
        for title, axes in zip(columns, places[0], strict=True):
            axes.set_title(title)
        for axes, picture in zip(places.flat, (picture for row in rows for picture in row), strict=True):
            axes.imshow(picture, cmap="gray", interpolation="nearest")
            axes.set_axis_off()
        return _png(figure, _SHOWN_DPI)


def _png(figure: Figure, dpi: int) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def _grey(mask: Picture) -> Picture:
    """Return the class ids of a mask as grey levels that can be told apart, what is ignored as white."""
    labelled = mask != IGNORE_INDEX
    most = max(1, int(mask[labelled].max(initial=0)))
    levels = (mask.astype(np.uint16) * 200 // most).astype(np.uint8)
    return np.asarray(Image.fromarray(np.where(labelled, levels, np.uint8(255))).convert("RGB"))


def _ratio(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
