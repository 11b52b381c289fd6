"""Planning a prediction, running it over the cluster, and summing it up. Runs on the driver, with Ray connected."""

import functools
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from unet_ray import pipeline, runtime, storage
from unet_ray.calibration import calibrate
from unet_ray.checkpoint import Checkpoint, find_checkpoint
from unet_ray.config import Config
from unet_ray.config_file import dump_config
from unet_ray.datasets.frames import load_frames
from unet_ray.datasets.inputs import add_folder, add_list
from unet_ray.datasets.layouts import add_layout
from unet_ray.datasets.listing import Listing
from unet_ray.datasets.prepared import Prepared, iter_split, open_dataset
from unet_ray.datasets.video import add_video
from unet_ray.errors import CheckpointError, ConfigError
from unet_ray.images.video import is_video
from unet_ray.labels.scheme import make_class_map
from unet_ray.metrics import score
from unet_ray.model.segmenter import resolve_precision
from unet_ray.predict.network import Network
from unet_ray.progress import Meter
from unet_ray.schema import PREDICTION_SUMMED
from unet_ray.table.commit import Progress, QuarantineLimits, fill
from unet_ray.table.parts import Part
from unet_ray.table.plan import Plan, Terms, Units, begun_plan, create_plan

logger = logging.getLogger(__name__)

_FRAMES_PER_TASK = 32
_FEWEST_UNITS = 8
_PARTS_WANTED = 200  # enough for a lively progress line; large jobs get one part per shard
_LISTS = (".csv", ".parquet")
_SETTINGS = ("batch_size", "forward_pixels", "flips", "scales", "planes", "mask_encoding", "shard_rows")


@dataclass(frozen=True, kw_only=True)
class PredictResult:
    """What `run` made; scores are None without truth."""

    predictions: str
    already_complete: bool
    checkpoint: str
    frames: int
    ok: int
    quarantined: int
    errors: dict[str, int]
    miou: float | None
    object_miou: float | None
    pixel_accuracy: float | None
    calibration_error: float | None
    seconds: float = field(compare=False)


def run(config: Config, on_progress: Callable[[Progress], None] | None = None) -> PredictResult:
    """Segment what the configuration names, exactly once.

    Safe to repeat: an unfinished table is continued from its sealed shards, a finished one is left alone. The
    architecture, classes, size and normalisation come from the checkpoint.

    Args:
        config: The experiment.
        on_progress: Called on the driver whenever a part is written, instead of logging a line.

    Raises:
        CheckpointError: There is no checkpoint, its weights are of another architecture than it says, or its classes
            are not those of the input.
        ConfigError: The views that are to be averaged are none for this network.
        DatasetError: There is nothing to segment.
        PlanMismatchError: The output holds the predictions of another model, setting or input.
    """
    started = time.monotonic()
    checkpoint = find_checkpoint(config.train_uri, config.predict.checkpoint, optimizer=False)
    card = checkpoint.card
    classes = card.class_map
    checkpoint.load_model()  # what the predictors will do: refused here, not in each of them
    if card.model.sizes.margin and set(config.predict.scales) != {1}:
        raise ConfigError(
            f"predict.scales: must be [1] for {card.model.kind}, whose output is smaller than its image; "
            f"got {list(config.predict.scales)}"
        )
    resources = runtime.plan_prediction(config.scaling)
    device = torch.device("cuda" if resources.device == "gpu" else "cpu")
    precision = resolve_precision(config.scaling.precision, device)
    plan = _plan(config, checkpoint, precision)
    logger.info(
        "%d frames by %s (epoch %d) in %s on %d %s predictor(s)",
        plan.num_rows, storage.name(checkpoint.info.uri), checkpoint.info.epoch, precision,
        resources.num_networks, resources.device,
    )  # fmt: skip
    network_kwargs = {
        "checkpoint": checkpoint.info,
        "device": resources.device,
        "threads": resources.threads_per_network,
        "precision": precision,
        "section": config.predict,
    }
    load = functools.partial(load_frames, classes=classes, policy=config.images)
    success, already = fill(
        plan,
        functools.partial(_produce, plan, load, network_kwargs, resources),
        limits=QuarantineLimits(
            fraction=config.data.max_quarantined_fraction, in_a_row=config.data.max_quarantined_in_a_row
        ),
        on_progress=on_progress or Meter("predict", "frames"),
    )
    storage.write(f"{plan.uri}/config.yaml", dump_config(config).encode())
    totals = success.totals
    scores = score(totals["confusion"], classes.background) if totals["confusion"] else None
    return PredictResult(
        predictions=plan.uri,
        already_complete=already,
        checkpoint=checkpoint.info.uri,
        frames=success.num_rows,
        ok=success.num_ok,
        quarantined=success.num_quarantined,
        errors=dict(success.errors),
        miou=scores.miou if scores else None,
        object_miou=scores.object_miou if scores else None,
        pixel_accuracy=scores.pixel_accuracy if scores else None,
        calibration_error=calibrate(totals["calibration"]).error if scores else None,
        seconds=round(time.monotonic() - started, 1),
    )


def _plan(config: Config, checkpoint: Checkpoint, precision: str) -> Plan:
    """Return the plan of the predictions that were begun here, or list what is to be segmented and make one."""
    card = checkpoint.card
    prepared = open_dataset(config.dataset_uri) if config.predict.images is None else None
    if prepared is not None:
        _check_classes(card.class_map.classes, f"the dataset {config.dataset_uri} has", prepared.classes.classes)
    elif config.labels.classes and config.labels.scheme != "kmeans":
        _check_classes(card.class_map.classes, "labels names", make_class_map(config.labels).classes)
    settings: dict[str, Any] = {
        **_name_source(config, prepared),
        "predict.checkpoint": checkpoint.info.model_sha256[:16],
        **{f"predict.{key}": getattr(config.predict, key) for key in _SETTINGS},
        "scaling.precision": precision,
    }
    facts = asdict(card.class_map) | {
        "model": asdict(card.model),
        "mask_encoding": config.predict.mask_encoding,
    }
    terms = Terms(
        kind="predictions",
        settings=settings,
        facts=facts,
        summed=PREDICTION_SUMMED,
        shard_rows=config.predict.shard_rows,
        unit_rows=min(config.predict.batch_size, config.predict.shard_rows),
    )
    uri = config.predictions_uri
    exclusive = not config.run.single_writer
    begun = begun_plan(uri, terms, exclusive=exclusive)
    if begun is not None:
        return begun
    if prepared is not None:
        return create_plan(uri, iter_split(prepared, config.predict.split), terms, notes={}, exclusive=exclusive)
    with Listing() as listing:
        _list_files(config, listing)
        return create_plan(uri, listing.rows(), terms, notes=listing.summary(), exclusive=exclusive)


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


def _produce(
    plan: Plan,
    load: pipeline.Load,
    network_kwargs: dict[str, Any],
    resources: runtime.Resources,
    units: Units,
) -> Iterator[Part]:
    return pipeline.infer(
        plan,
        units,
        load,
        Network,
        network_kwargs,
        resources,
        units_per_task=max(1, _FRAMES_PER_TASK // plan.unit_rows),
        units_per_part=min(plan.num_units(0), max(_FEWEST_UNITS, len(units) // _PARTS_WANTED)),
    )
