"""Stage 1: frames and masks in, a checked and sealed dataset out."""

import functools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from unet_ray import pipeline, runtime, storage
from unet_ray.clusters import fit_centroids, read_centroids
from unet_ray.config import Config
from unet_ray.config_file import dump_config
from unet_ray.config_input import ImagesSection, LabelsSection, SyntheticSection
from unet_ray.datasets import layouts, synthetic
from unet_ray.datasets.frames import fetch_pair
from unet_ray.datasets.prepared import ROW_GROUP_ROWS
from unet_ray.datasets.splits import split_settings
from unet_ray.datasets.stats import compute_stats
from unet_ray.documents import pack_document
from unet_ray.errors import ImageError, NotFoundError
from unet_ray.images.encode import encode_image, encode_mask
from unet_ray.images.resize import resize_image, resize_mask
from unet_ray.job_record import JobRecord
from unet_ray.labels.classes import ClassMap
from unet_ray.labels.scheme import check_labels, make_class_map, make_cluster_map
from unet_ray.metrics import count_classes
from unet_ray.progress import Meter
from unet_ray.schema import DATASET, DATASET_SUMMED, IDENTITY, OK, QUARANTINED
from unet_ray.table.commit import Progress, QuarantineLimits, fill
from unet_ray.table.plan import Plan, Terms, begun_plan, create_plan, find_plan

logger = logging.getLogger(__name__)

_UNIT_ROWS = 64


@dataclass(frozen=True, kw_only=True)
class PrepareResult:
    """What `run` made: where, how much of it, and per split the usable pairs."""

    dataset: str
    already_complete: bool
    images: int
    ok: int
    quarantined: int
    errors: dict[str, int]
    splits: dict[str, int]
    repeated_images: int
    skipped_objects: int
    unpaired_masks: int
    images_without_mask: int
    seconds: float = field(compare=False)


def run(config: Config, on_progress: Callable[[Progress], None] | None = None) -> PrepareResult:
    """Prepare the dataset of a configuration; runs on the driver, with Ray connected.

    Safe to repeat: an unfinished dataset is continued, a finished one is left alone.

    Args:
        config: The experiment.
        on_progress: Called on the driver whenever a part is written, instead of logging a line.

    Raises:
        ConfigError: The labels do not fit together, or the masks have fewer colours than clusters are wanted.
        DatasetError: The input is empty or not laid out as promised.
        PlanMismatchError: Another dataset lies at the output.
        ResourceError: The cluster has no CPU.
        QuarantineLimitError: More pairs are unusable than ``data.max_quarantined_fraction`` allows.
    """
    started = time.monotonic()
    labels = layouts.labels_of(config)
    check_labels(labels)
    num_cpus = runtime.require_cpus(config.scaling)
    if config.data.layout == "synthetic":
        draw_frames(config)
    uri = config.dataset_uri
    plan = _plan(config, labels)
    logger.info("%d images found under %s", plan.num_rows, layouts.root_of(config))
    check = functools.partial(
        check_pairs,
        classes=ClassMap.from_facts(plan.facts),
        policy=config.images,
        resize=config.data.resize,
    )
    record = JobRecord("prepare", config.run.name, {"load": num_cpus, "write": num_cpus})
    success, already = fill(
        plan,
        lambda units: record.watch(pipeline.transform(plan, units, check, row_group_rows=ROW_GROUP_ROWS)),
        limits=QuarantineLimits(
            fraction=config.data.max_quarantined_fraction, in_a_row=config.data.max_quarantined_in_a_row
        ),
        on_progress=on_progress or Meter("prepare", "pairs"),
    )
    stats = compute_stats(uri)
    storage.write(f"{uri}/stats.json", pack_document(stats))
    storage.write(f"{uri}/config.yaml", dump_config(config).encode())
    record.write(uri)
    return PrepareResult(
        dataset=uri,
        already_complete=already,
        images=success.num_rows,
        ok=success.num_ok,
        quarantined=success.num_quarantined,
        errors=dict(success.errors),
        splits={split: facts["ok"] for split, facts in stats["splits"].items()},
        repeated_images=plan.notes["repeated_images"],
        skipped_objects=plan.notes["skipped_objects"],
        unpaired_masks=plan.notes["unpaired_masks"],
        images_without_mask=plan.notes["images_without_mask"],
        seconds=round(time.monotonic() - started, 1),
    )


def _plan(config: Config, labels: LabelsSection) -> Plan:
    """Return the plan of the dataset that was begun here, or list the input and make one."""
    uri, exclusive = config.dataset_uri, not config.run.single_writer
    facts = _known_facts(uri, labels)
    if facts is not None:
        begun = begun_plan(uri, _terms(config, labels, facts), exclusive=exclusive)
        if begun is not None:
            return begun
    with layouts.list_inputs(config) as listing:
        if facts is None:
            centroids = fit_centroids(listing.rows(), labels.clusters, policy=config.images, seed=config.run.seed)
            facts = asdict(make_cluster_map(labels, centroids))
        terms = _terms(config, labels, facts)
        origin = {"layout": config.data.layout, "root": layouts.root_of(config)}
        notes = listing.summary() | origin | {"split": listing.splits}
        return create_plan(uri, listing.rows(), terms, notes=notes, exclusive=exclusive)


def _known_facts(uri: str, labels: LabelsSection) -> Mapping[str, Any] | None:
    """Return what the plan says of the classes, or None where centroids must be fitted first.

    Centroids are fitted once: the plan that has them may be of an input that changed since. Its settings tell whether
    they are those of these labels.
    """
    if labels.scheme != "kmeans":
        return asdict(make_class_map(labels))
    planned = find_plan(uri)
    if planned is not None:
        return planned.facts
    return asdict(make_cluster_map(labels, read_centroids(labels.centroids))) if labels.centroids else None


def _terms(config: Config, labels: LabelsSection, facts: Mapping[str, Any]) -> Terms:
    settings = {
        "data.resize": config.data.resize,
        "data.shard_rows": config.data.shard_rows,
        **{f"images.{key}": value for key, value in asdict(config.images).items()},
        **{f"labels.{key}": value for key, value in asdict(labels).items()},
        **split_settings(config.data, config.run.seed),
        **{f"video.{key}": value for key, value in asdict(config.video).items() if config.data.layout == "video"},
    }
    if labels.scheme == "kmeans":
        settings["run.seed"] = config.run.seed
    return Terms(
        kind="dataset",
        settings=settings,
        facts=facts,
        summed=DATASET_SUMMED,
        shard_rows=config.data.shard_rows,
        unit_rows=min(_UNIT_ROWS, config.data.shard_rows),
    )


def check_pairs(
    rows: Sequence[dict[str, Any]], *, classes: ClassMap, policy: ImagesSection, resize: tuple[int, int] | None
) -> pa.Table:
    """Fetch, check and encode planned pairs (`schema.PLAN`) into `schema.DATASET` rows; runs in tasks.

    Whatever is permanently wrong with a pair makes it a quarantined row; what may pass is raised.
    """
    return pa.Table.from_pylist([_check_pair(row, classes, policy, resize) for row in rows], schema=DATASET)


def draw_frames(config: Config) -> None:
    """Draw the synthetic frames and masks that are not there yet, in Ray tasks."""
    section, uri = config.synthetic, layouts.root_of(config)
    try:
        have = {item.key for item in storage.list_objects(f"{uri}/masks")}
    except NotFoundError:
        have = set()
    missing = [
        (sequence, frame)
        for sequence in range(section.sequences)
        for frame in range(section.frames)
        if f"{_frame_key(sequence, frame)}.png" not in have
    ]
    if not missing:
        return
    logger.info("drawing %d street-scene frames of %d x %d px", len(missing), section.height, section.width)
    per_task = 16
    chunks = [missing[start : start + per_task] for start in range(0, len(missing), per_task)]
    draw = ray.remote(_draw_frames)
    exclusive = not config.run.single_writer
    ray.get([draw.remote(uri, config.run.seed, section, chunk, exclusive) for chunk in chunks])


def _draw_frames(
    uri: str, seed: int, section: SyntheticSection, frames: Sequence[tuple[int, int]], exclusive: bool
) -> None:
    for sequence, frame in frames:
        image, mask = synthetic.render_frame(seed, sequence, frame, section.height, section.width)
        key = _frame_key(sequence, frame)
        storage.create(f"{uri}/images/{key}.png", encode_image(image), exclusive=exclusive)
        storage.create(f"{uri}/masks/{key}.png", encode_mask(mask, "png"), exclusive=exclusive)


def _frame_key(sequence: int, frame: int) -> str:
    return f"seq_{sequence:03d}/frame_{frame:05d}"


def _check_pair(
    row: dict[str, Any], classes: ClassMap, policy: ImagesSection, resize: tuple[int, int] | None
) -> dict[str, Any]:
    result = {name: row.get(name) for name in IDENTITY}
    try:
        pair = fetch_pair(row, classes, policy)
        if pair.mask is None:
            raise ImageError(
                "missing_mask", "no mask of this name; add it, or leave such images out with data.unlabelled: skip"
            )
    except ImageError as error:
        return result | {"status": QUARANTINED, "error_code": error.code, "error_message": error.message}
    image, mask, plain = pair.image, pair.mask, pair.plain
    if resize is not None and resize != mask.shape:
        image, mask, plain = resize_image(image, *resize), resize_mask(mask, *resize), False
    class_pixels, ignored_pixels = count_classes(mask, classes.num_classes)
    flat = image.reshape(-1, 3)
    histograms = np.stack([np.bincount(flat[:, channel], minlength=256) for channel in range(3)])
    values = np.arange(256)
    return result | {
        "status": OK,
        "image": pair.data if plain else encode_image(image),
        "mask": encode_mask(mask, "png"),
        "height": mask.shape[0],
        "width": mask.shape[1],
        "class_pixels": class_pixels.tolist(),
        "ignored_pixels": ignored_pixels,
        "channel_sum": (histograms @ values).tolist(),
        "channel_square_sum": (histograms @ values**2).tolist(),
    }
