"""Starting, watching and finishing a training run. Runs on the driver, with Ray connected."""

import logging
import time
import uuid
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import ray
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig, WorkerGroupError
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.util.queue import Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from unet_ray import runtime, storage
from unet_ray.checkpoint import (
    Checkpoint,
    ModelCard,
    find_checkpoint,
    list_checkpoints,
    open_checkpoint,
    resume_checkpoint,
)
from unet_ray.config import Config
from unet_ray.config_file import dump_config
from unet_ray.datasets.prepared import Prepared, index_split, open_dataset
from unet_ray.documents import pack_document, unpack_document
from unet_ray.errors import CheckpointError, ConfigError, ExistsError, PlanMismatchError, ResourceError
from unet_ray.faults import outlast
from unet_ray.losses.borders import Borders
from unet_ray.metrics import median_frequency_weights
from unet_ray.model.build import build_model
from unet_ray.model.encoder_weights import load_encoder_weights
from unet_ray.model.segmenter import resolve_precision
from unet_ray.resources import Resources
from unet_ray.table.plan import name_difference
from unet_ray.train.failures import Failures, describe, died
from unet_ray.train.feed import Source
from unet_ray.train.loop import Job, train_worker
from unet_ray.train.outcome import summarise
from unet_ray.train.schedule import Schedule
from unet_ray.train.start import check_start, new_classes
from unet_ray.train.tracking import Track, tracked
from unet_ray.train.watcher import Watcher

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What `run` made. Scores are of the best epoch by ``train.metric``; None when it was not validated.

    ``skipped_steps`` had no finite loss or gradient and changed nothing.
    """

    checkpoint: str
    already_complete: bool
    epochs: int
    train_loss: float | None
    best_epoch: int | None
    miou: float | None
    object_miou: float | None
    pixel_accuracy: float | None
    skipped_steps: int
    train_seconds: float
    seconds: float = field(compare=False)


def run(config: Config, *, until_epoch: int | None = None, share: int = 1) -> TrainResult:
    """Train the network of a configuration on its prepared dataset.

    Safe to repeat: a run that was cut off goes on from its last checkpoint, a finished one is left alone.

    Args:
        config: The configuration.
        until_epoch: Pause after this epoch; a later call goes on. None trains to the end.
        share: How many runs share the cluster at a time.

    Raises:
        TableError: The dataset is not prepared.
        ConfigError: Classes, class weights, border classes, crop, batch or encoder weights do not fit the dataset or
            the network, or MLflow does not take the run.
        PlanMismatchError: The run was begun with other settings.
        ResourceError: The cluster is too small, workers died too often, or the network cannot be compiled.
        DivergedError: Ten steps in a row had no finite loss or gradient.
    """
    started = time.monotonic()
    prepared = open_dataset(config.dataset_uri)
    resources = runtime.plan_training(config.scaling, share)
    _check(config, prepared, resources)
    start = _open_start(config, prepared)
    _claim(config, prepared)
    until = min(until_epoch or config.train.epochs, config.train.epochs)
    history = _history_until(config.train_uri, until)
    already = history is not None
    if history is not None:
        summary = summarise(history, config.train.metric)
    else:
        with tracked(config) as track:
            summary = _fit(config, prepared, resources, start, until, track)
    best = outlast(lambda: find_checkpoint(config.train_uri, "best", optimizer=False))
    return TrainResult(
        checkpoint=best.info.uri,
        already_complete=already,
        seconds=round(time.monotonic() - started, 1),
        **summary,
    )


def class_weights(config: Config, prepared: Prepared) -> tuple[float, ...]:
    """Return the weight of each class in the pixel-wise losses.

    ``median`` is median frequency balancing (`median_frequency_weights`), ``sqrt`` its square root. A class that
    never occurs weighs 0, unless no weights are asked for.

    Raises:
        ConfigError: The given weights are not one per class.
    """
    wanted = config.loss.class_weights
    if wanted == "none":
        return (1.0,) * prepared.classes.num_classes
    if not isinstance(wanted, str):
        if len(wanted) != prepared.classes.num_classes:
            raise ConfigError(
                "loss.class_weights: must hold a number per class, "
                f"got {len(wanted)} for {prepared.classes.num_classes} classes"
            )
        return wanted
    split = prepared.stats["splits"]["train"]
    power = 0.5 if wanted == "sqrt" else 1.0
    weights = median_frequency_weights(split["class_pixels"], split["class_image_pixels"])
    return tuple(0.0 if weight is None else weight**power for weight in weights)


def borders(config: Config, prepared: Prepared) -> Borders | None:
    """Return what the border weights are made from, None where they are not asked for.

    Raises:
        ConfigError: A class is none of the dataset's.
    """
    loss, classes = config.loss, prepared.classes.classes
    for name in loss.border_classes:
        if name not in classes:
            raise ConfigError(
                f"loss.border_classes: {name!r} is no class of the dataset {config.dataset_uri}, which has "
                f"{', '.join(classes)}; name classes whose connected components are cells"
            )
    class_ids = tuple(class_id for class_id, name in enumerate(classes) if name in loss.border_classes)
    return Borders(class_ids=class_ids, weight=loss.border_weight, sigma=loss.border_sigma) if class_ids else None


def _fit(
    config: Config,
    prepared: Prepared,
    resources: Resources,
    start: Checkpoint | None,
    until_epoch: int,
    track: Track,
) -> dict[str, Any]:
    storage.write(f"{config.train_uri}/config.yaml", dump_config(config).encode())
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    messages = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})  # it ends with us, not with a node
    job = _make_job(config, prepared, resources, start, messages, until_epoch)
    schedule = job.schedule
    logger.info(
        "training on %d pairs, validating on %d: %d epochs of %d steps, in %s",
        schedule.num_train, schedule.num_eval, schedule.epochs, schedule.steps_per_epoch, job.precision,
    )  # fmt: skip
    logger.info("%s: %s", runtime.describe_cluster(), resources)
    filesystem, path = storage.arrow_filesystem(f"{config.train_uri}/_ray")
    trainer = _Trainer(
        train_worker,  # type: ignore[arg-type]
        train_loop_config={"job": job},
        scaling_config=ScalingConfig(  # type: ignore[call-arg]
            num_workers=config.scaling.num_workers,  # type: ignore[arg-type]
            use_gpu=resources.device == "gpu",
            resources_per_worker={"CPU": resources.cpus_per_network}
            | ({"GPU": 1} if resources.device == "gpu" else {}),
            label_selector=resources.node_labels,
        ),
        run_config=RunConfig(
            name=uuid.uuid4().hex,  # our checkpoints say where to go on; Ray's own state must not
            storage_path=path,
            storage_filesystem=filesystem,
            failure_config=FailureConfig(max_failures=config.train.max_failures),
            callbacks=[Failures(messages)],  # type: ignore[list-item]
            worker_runtime_env={"env_vars": runtime.KEEP_HEAP},  # type: ignore[call-arg]
        ),
    )
    watcher = Watcher(messages, schedule, config.run.name, track)
    watcher.start()
    try:
        result = trainer.fit()
    except WorkerGroupError as error:
        if not died(error):
            raise
        often = f"{config.train.max_failures + 1} times" if config.train.max_failures else "once"
        raise ResourceError(
            f"train.max_failures: workers died {often}, the last time {watcher.position} "
            f"({describe(error.worker_failures)}); give them more memory, or go on from the last checkpoint with the "
            "same command"
        ) from None
    finally:
        messages.put(None)
        watcher.join(timeout=10)
    outlast(lambda: storage.delete_all(f"{config.train_uri}/_ray"))
    summary = result.return_value  # type: ignore[attr-defined]
    assert isinstance(summary, dict)
    return summary


class _Trainer(TorchTrainer):
    def _create_default_callbacks(self) -> list[Any]:
        """Leave out two that start a process each.

        One is for data given to the trainer, as ours is not. The other frees the cluster when the controller dies, as
        the end of this driver does; without a dashboard to ask, it holds up the end of every run by 12 s.
        """
        unused = (DatasetsCallback, PlacementGroupCleanerCallback)
        return [one for one in super()._create_default_callbacks() if not isinstance(one, unused)]  # type: ignore[misc]

    def _register_sigint_handler(self, controller: Any) -> None:
        """Leave Ctrl-C to whoever runs the job: Ray Train's handler would end the process with a code of its own."""


def _make_job(
    config: Config,
    prepared: Prepared,
    resources: Resources,
    start: Checkpoint | None,
    messages: Queue,
    until_epoch: int,
) -> Job:
    train = index_split(prepared, "train")
    has_val = prepared.stats["splits"].get("val", {}).get("ok", 0) > 0
    val = index_split(prepared, "val") if has_val else None
    classes = prepared.classes
    mean, std = prepared.stats["mean"], prepared.stats["std"]
    card = ModelCard(
        class_map=classes,
        model=replace(config.model, encoder_weights=None),
        mean=start.card.mean if start else (mean[0], mean[1], mean[2]),  # which its weights are used to
        std=start.card.std if start else (max(std[0], 1.0), max(std[1], 1.0), max(std[2], 1.0)),
        input_size=prepared.resize,
        dataset_run_id=prepared.table.plan.run_id,
    )
    source = Source(
        train=ray.put(train),
        val=None if val is None else ray.put(val),
        part_uris=tuple(prepared.table.part_uris()),
        classes=classes,
        policy=config.images,
        seed=config.run.seed,
        augment=config.augment,
        crop=config.crop_of(train["height"][0].as_py(), train["width"][0].as_py()),
        margin=config.model.sizes.margin,
        mean=card.mean,
        std=card.std,
        borders=borders(config, prepared),
    )
    schedule = Schedule(
        num_train=len(train),
        num_eval=0 if val is None else len(val),
        batch_size=config.train.batch_size,
        batches_per_step=config.train.accumulate * config.scaling.workers[1],
        eval_batch_size=config.predict.batch_size,
        epochs=config.train.epochs,
        eval_every=config.train.eval_every,
        rank=0,
        world_size=resources.num_networks,
    )
    device = torch.device("cuda" if resources.device == "gpu" else "cpu")
    return Job(
        config=config,
        card=card,
        source=source,
        schedule=schedule,
        class_weights=class_weights(config, prepared),
        precision=resolve_precision(config.scaling.precision, device),
        threads=resources.threads_per_network,
        data_cpus=max(1.0, resources.data_cpus / resources.num_networks),
        until_epoch=until_epoch,
        progress=messages,
    )


def _check(config: Config, prepared: Prepared, resources: Resources) -> None:
    """Refuse what does not fit the dataset or the cluster while the run can still be begun with other settings."""
    wanted, found = config.labels.classes, prepared.classes.classes
    if wanted and wanted != found:
        raise ConfigError(
            f"labels.classes: names {list(wanted)}, the dataset {config.dataset_uri} was prepared with {list(found)}; "
            "prepare another dataset with these (data.dataset), or name the same"
        )
    class_weights(config, prepared)
    borders(config, prepared)
    check_batch(config, prepared.stats["splits"]["train"]["ok"])
    if config.model.norm == "sync_batch" and resources.device == "cpu":
        raise ConfigError("model.norm: sync_batch needs GPUs, and this job trains on CPUs; use batch or group")
    fewest, most = config.scaling.workers
    if config.model.norm == "sync_batch" and fewest < most:
        raise ConfigError(
            "model.norm: sync_batch needs as many batches on every worker, which scaling.num_workers "
            f"[{fewest}, {most}] cannot promise; use batch or group, or give one number"
        )
    if config.model.encoder_weights is not None and not list_checkpoints(config.train_uri):
        load_encoder_weights(build_model(config.model, prepared.classes.num_classes), config.model)


def check_batch(config: Config, num_train: int) -> None:
    """Refuse a step of more pairs than there are: some would count twice in it.

    Raises:
        ConfigError: The batch of all workers is larger than the training split.
    """
    batch, accumulate, (_, workers) = config.train.batch_size, config.train.accumulate, config.scaling.workers
    if batch * accumulate * workers > num_train:
        raise ConfigError(
            f"train.batch_size: {batch} x train.accumulate {accumulate} x scaling.num_workers {workers} are "
            f"{batch * accumulate * workers} pairs a step, the training split has {num_train}; lower one of them"
        )


def _open_start(config: Config, prepared: Prepared) -> Checkpoint | None:
    """Return the checkpoint that a run begins with, if one is asked for and it fits, or that it has come to since."""
    if config.train.start_from is None:
        return None
    if list_checkpoints(config.train_uri):
        return find_checkpoint(config.train_uri, "last", optimizer=False)
    start = open_checkpoint(config.train.start_from)
    check_start(start, config.model)
    new = new_classes(start, prepared.classes.classes)
    told = f"; its head anew for {', '.join(new)}" if new else ""
    logger.info("begins with the weights of %s%s", start.info.uri, told)
    return start


def _claim(config: Config, prepared: Prepared) -> None:
    """Record what the run was begun with, or check that it is the same."""
    settings = {
        f"{section}.{key}": value
        for section in ("model", "augment", "loss", "optim")
        for key, value in asdict(getattr(config, section)).items()
    }
    settings |= {
        "run.seed": config.run.seed,
        "train.epochs": config.train.epochs,
        "train.batch_size": config.train.batch_size,
        "train.accumulate": config.train.accumulate,
        "train.eval_every": config.train.eval_every,
        "train.metric": config.train.metric,
        "train.start_from": config.train.start_from,
        "scaling.num_workers": config.scaling.num_workers,
        "scaling.precision": config.scaling.precision,
        "data.dataset": prepared.table.plan.run_id,
        "classes": prepared.classes.classes,
    }
    uri = f"{config.train_uri}/_RUN.json"
    document = pack_document(settings)
    try:
        storage.create(uri, document, exclusive=not config.run.single_writer)
    except ExistsError:
        fix = "give another run.name, or the settings it was begun with"
        begun, wanted = (unpack_document(data, uri, CheckpointError) for data in (storage.read_bytes(uri), document))
        if difference := name_difference(config.train_uri, begun, wanted, fix):
            raise PlanMismatchError(difference) from None


def _history_until(train_uri: str, epoch: int) -> list[dict[str, Any]] | None:
    """Return the history of a run that has come to an epoch, or to its end before; else None."""
    last = resume_checkpoint(train_uri)
    if last is None:
        return None
    history: list[dict[str, Any]] = last.progress["history"]
    return history if last.progress["finished"] or (history and history[-1]["epoch"] >= epoch) else None
