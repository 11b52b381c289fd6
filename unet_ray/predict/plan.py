"""What a prediction will do: the model it takes, the frames it lists, and the plan they make. Runs on the driver."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from itertools import islice
from typing import Any, Literal

import numpy as np
import torch

from unet_ray.config import Arithmetic, Config, PredictSection
from unet_ray.datasets.inputs import add_folder, add_list
from unet_ray.datasets.layouts import add_layout
from unet_ray.datasets.listing import Listing
from unet_ray.datasets.prepared import Prepared, iter_split, open_dataset
from unet_ray.datasets.video import add_video
from unet_ray.errors import CheckpointError, ConfigError
from unet_ray.exported import ExportedModel, Model, find_model
from unet_ray.images.video import is_video
from unet_ray.labels.scheme import make_class_map
from unet_ray.model.onnx_network import CPU, choose_provider
from unet_ray.model.segmenter import resolve_precision
from unet_ray.schema import PREDICTION_SUMMED
from unet_ray.table.plan import Plan, Terms, begun_plan, create_plan

logger = logging.getLogger(__name__)

_LISTS = (".csv", ".parquet")
_SETTINGS = (
    "batch_size", "forward_pixels", "flips", "scales", "copy_repeats", "segment_every", "smooth_frames", "planes",
    "mask_encoding", "shard_rows",
)  # fmt: skip

Row = Mapping[str, Any]


def open_model(config: Config) -> Model:
    """Return the model that is to predict, which has been loaded once: refused here, not in each predictor.

    Raises:
        CheckpointError: There is none, or its weights are of another architecture than it says.
        ConfigError: The views that are to be averaged are none for this network, or there is no onnxruntime for it.
    """
    model = find_model(config.train_uri, config.predict.checkpoint)
    card = model.card
    model.load_model()
    if card.model.sizes.margin and set(config.predict.scales) != {1}:
        raise ConfigError(
            f"predict.scales: must be [1] for {card.model.kind}, whose output is smaller than its image; "
            f"got {list(config.predict.scales)}"
        )
    return model


def choose_arithmetic(config: Config, model: Model, device: Literal["cpu", "gpu"]) -> Arithmetic:
    """Return what a model computes in; an exported one in fp32, and where onnxruntime runs it is said in the log.

    Raises:
        ConfigError: An exported model is asked for other arithmetic.
    """
    asked, where = config.scaling.precision, torch.device("cuda" if device == "gpu" else "cpu")
    if not isinstance(model, ExportedModel):
        return resolve_precision(asked, where)
    if asked not in ("auto", "fp32"):
        raise ConfigError(f"scaling.precision: must be auto or fp32 for {model.info.uri}, an ONNX file; got {asked}")
    provider = choose_provider(where)
    logger.info("onnxruntime runs the network: %s", provider)
    if device == "gpu" and provider == CPU:
        logger.warning("GPUs stay idle: install onnxruntime-gpu in place of onnxruntime, or set scaling.device cpu")
    return "fp32"


def plan_predictions(config: Config, model: Model, precision: str) -> Plan:
    """Return the plan of the predictions that were begun here, or list what is to be segmented and make one.

    Raises:
        CheckpointError: Its classes are not those of the input.
        DatasetError: There is nothing to segment.
        PlanMismatchError: The output holds the predictions of another model, setting or input.
    """
    prepared = _open_input(config, model)
    terms = _terms(config, model, prepared, precision)
    exclusive = not config.run.single_writer
    begun = begun_plan(config.predictions_uri, terms, exclusive=exclusive)
    if begun is not None:
        return begun
    with _list_rows(config, prepared) as (rows, notes):
        return create_plan(config.predictions_uri, rows, terms, notes=notes, exclusive=exclusive)


def rows_around(section: PredictSection) -> int:
    """Return how many frames before and after a unit are seen with it: those that vote on it, and the one before it."""
    return section.smooth_frames + 1 if section.smooth_frames else 0


def plan_sample(config: Config, model: Model, precision: str, uri: str, num_units: int) -> tuple[Plan, int]:
    """Plan some units, drawn evenly from all frames, at another place; return that plan and the number of all frames.

    Raises:
        CheckpointError, DatasetError: As `plan_predictions`.
    """
    prepared = _open_input(config, model)
    terms = _terms(config, model, prepared, precision)
    with _list_rows(config, prepared) as (rows, _):
        chosen, num_rows = draw_units(rows, terms.unit_rows, num_units, config.run.seed)
    return create_plan(uri, chosen, terms, notes={}), num_rows


def draw_units(rows: Iterator[Row], unit_rows: int, num_units: int, seed: int) -> tuple[list[Row], int]:
    """Draw consecutive rows, ``unit_rows`` at a time, in one pass; return them in order, and the number of all rows.

    Every unit is as likely as any other (Vitter 1985, "Random Sampling with a Reservoir", algorithm R).
    """
    rng = np.random.default_rng(seed)
    drawn: list[tuple[int, list[Row]]] = []
    number = num_rows = 0
    while unit := list(islice(rows, unit_rows)):
        num_rows += len(unit)
        place = number if number < num_units else int(rng.integers(number + 1))
        if place < num_units:
            drawn[place : place + 1] = [(number, unit)]
        number += 1
    return [row for _, unit in sorted(drawn, key=lambda item: item[0]) for row in unit], num_rows


def _open_input(config: Config, model: Model) -> Prepared | None:
    """Return the prepared dataset, or None for files, when it has the classes of the model."""
    known = model.card.class_map.classes
    if config.predict.images is None:
        prepared = open_dataset(config.dataset_uri)
        _check_classes(known, f"the dataset {config.dataset_uri} has", prepared.classes.classes)
        return prepared
    if config.labels.classes and config.labels.scheme != "kmeans":
        _check_classes(known, "labels names", make_class_map(config.labels).classes)
    return None


def _terms(config: Config, model: Model, prepared: Prepared | None, precision: str) -> Terms:
    card = model.card
    settings: dict[str, Any] = {
        **_name_source(config, prepared),
        "predict.checkpoint": model.info.model_sha256[:16],
        **{f"predict.{key}": getattr(config.predict, key) for key in _SETTINGS},
        "scaling.precision": precision,
    }
    facts = asdict(card.class_map) | {
        "model": asdict(card.model),
        "mask_encoding": config.predict.mask_encoding,
        "estimator": None if model.estimator is None else asdict(model.estimator),
        "reference": None if model.reference is None else model.reference.to_json(),
    }
    return Terms(
        kind="predictions",
        settings=settings,
        facts=facts,
        summed=PREDICTION_SUMMED,
        shard_rows=config.predict.shard_rows,
        unit_rows=min(config.predict.batch_size, config.predict.shard_rows),
    )


@contextmanager
def _list_rows(config: Config, prepared: Prepared | None) -> Iterator[tuple[Iterator[Row], Mapping[str, Any]]]:
    """Give the rows to plan, and notes of what is not among them."""
    if prepared is not None:
        yield iter_split(prepared, config.predict.split), {}
        return
    with Listing() as listing:
        _list_files(config, listing)
        yield listing.rows(), listing.summary()


def _name_source(config: Config, prepared: Prepared | None) -> dict[str, Any]:
    """Return the settings that name where the frames come from, and for files how they are read."""
    if prepared is not None:
        return {"predict.split": config.predict.split, "data.dataset": prepared.table.plan.run_id}
    sections = {"images": config.images} | ({"video": config.video} if _reads_videos(config) else {})
    policy = {f"{name}.{key}": value for name, section in sections.items() for key, value in asdict(section).items()}
    return {"predict.images": _images_uri(config), **policy}


def _list_files(config: Config, listing: Listing) -> None:
    images, masks, data = _images_uri(config), config.predict.masks, config.data
    if _reads_videos(config):
        add_video(listing, images, config, masks and masks.rstrip("/"))
    elif config.predict.layout is not None:
        add_layout(listing, config.predict.layout, images, config)
    elif images.endswith(_LISTS):
        add_list(listing, images)
    else:
        add_folder(
            listing, images, masks and masks.rstrip("/"), image_suffix=data.image_suffix, mask_suffix=data.mask_suffix
        )


def _images_uri(config: Config) -> str:
    return str(config.predict.images).rstrip("/")


def _reads_videos(config: Config) -> bool:
    layout = config.predict.layout
    return layout == "video" or (layout is None and is_video(_images_uri(config)))


def _check_classes(known: tuple[str, ...], whose: str, wanted: tuple[str, ...]) -> None:
    if known != wanted:
        raise CheckpointError(
            f"predict.checkpoint: it knows the classes {list(known)}, {whose} {list(wanted)}; "
            "take a checkpoint trained on these, or frames and classes that match it"
        )
