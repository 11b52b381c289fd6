"""Planning a prediction, running it over the cluster, and summing it up. Runs on the driver, with Ray connected."""

import functools
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from unet_ray import pipeline, runtime, storage
from unet_ray.calibration import calibrate
from unet_ray.config import Arithmetic, Config
from unet_ray.config_file import dump_config
from unet_ray.datasets.frames import load_frames
from unet_ray.exported import Model
from unet_ray.job_record import JobRecord
from unet_ray.metrics import score
from unet_ray.predict.describe import Describe
from unet_ray.predict.network import Network
from unet_ray.predict.plan import choose_arithmetic, open_model, plan_predictions, rows_around
from unet_ray.progress import Meter
from unet_ray.resources import Resources
from unet_ray.table.commit import Progress, QuarantineLimits, fill
from unet_ray.table.plan import Plan, Units

logger = logging.getLogger(__name__)

_FRAMES_PER_TASK = 32
_FEWEST_UNITS = 8
_PARTS_WANTED = 200  # enough for a lively progress line; large jobs get one part per shard


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
    architecture, classes, size and normalisation come from the checkpoint, or the exported model.

    Args:
        config: The experiment.
        on_progress: Called on the driver whenever a part is written, instead of logging a line.

    Raises:
        CheckpointError: There is no checkpoint, its weights are of another architecture than it says, or its classes
            are not those of the input.
        ConfigError: The views that are to be averaged are none for this network; or it is an exported one, and other
            arithmetic than fp32 is asked for, or onnxruntime is not installed.
        DatasetError: There is nothing to segment.
        PlanMismatchError: The output holds the predictions of another model, setting or input.
    """
    started = time.monotonic()
    model = open_model(config)
    classes = model.card.class_map
    runtime.gather(config.scaling)  # and see that they are enough, before anything is listed
    precision = choose_arithmetic(config, model, runtime.plan_prediction(config.scaling).device)
    plan = plan_predictions(config, model, precision)
    resources = runtime.plan_prediction(config.scaling, len(plan.units(range(plan.num_shards))))
    logger.info(
        "%d frame(s) by %s (epoch %d) in %s",
        plan.num_rows, storage.name(model.info.uri), model.info.epoch, precision,
    )  # fmt: skip
    logger.info("%s: %s", runtime.describe_cluster(), resources)
    tasks, networks = resources.data_cpus, resources.num_networks + resources.spare_networks
    record = JobRecord(
        "predict",
        config.run.name,
        {
            "load": tasks,
            "infer": networks,
            "describe": networks * resources.units_in_hand,
            "write": tasks,
        },
    )
    success, already = fill(
        plan,
        lambda units: record.watch(_produce(config, model, precision, resources, plan, units)),
        limits=QuarantineLimits(
            fraction=config.data.max_quarantined_fraction, in_a_row=config.data.max_quarantined_in_a_row
        ),
        on_progress=on_progress or Meter("predict", "frames"),
    )
    storage.write(f"{plan.uri}/config.yaml", dump_config(config).encode())
    record.write(plan.uri)
    totals = success.totals
    scores = score(totals["confusion"], classes.background) if totals["confusion"] else None
    return PredictResult(
        predictions=plan.uri,
        already_complete=already,
        checkpoint=model.info.uri,
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


def _produce(
    config: Config,
    model: Model,
    precision: Arithmetic,
    resources: Resources,
    plan: Plan,
    units: Units,
) -> Iterator[pipeline.Message]:
    classes = model.card.class_map
    return pipeline.infer(
        plan,
        units,
        functools.partial(load_frames, classes=classes, policy=config.images),
        Network,
        {
            "model": model.info,
            "device": resources.device,
            "threads": resources.threads_per_network,
            "precision": precision,
            "section": config.predict,
        },
        Describe(section=config.predict, num_classes=classes.num_classes, estimator=model.estimator),
        resources,
        units_per_task=max(1, _FRAMES_PER_TASK // plan.unit_rows),
        units_per_part=min(plan.num_units(0), max(_FEWEST_UNITS, len(units) // _PARTS_WANTED)),
        around=rows_around(config.predict),
    )
