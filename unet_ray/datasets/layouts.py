"""From a configuration to the rows to plan, and to the labels that the layout brings; runs on the driver."""

import importlib
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from unet_ray.config import Config
from unet_ray.config_input import DataSection, LabelsSection
from unet_ray.datasets import synthetic
from unet_ray.datasets.camvid import add_camvid
from unet_ray.datasets.carla import add_carla
from unet_ray.datasets.cityscapes import add_cityscapes
from unet_ray.datasets.inputs import add_folder, add_list
from unet_ray.datasets.isbi import add_isbi
from unet_ray.datasets.listing import Listing
from unet_ray.datasets.pairs import add_pairs
from unet_ray.datasets.sniff import looks_like
from unet_ray.datasets.video import add_video
from unet_ray.datasets.voc import add_voc
from unet_ray.errors import ConfigError, DatasetError

logger = logging.getLogger(__name__)

Layout = Callable[[Listing, str, DataSection], None]
"""What adds the rows of an input: to the listing, from the URI of the root, by the settings of ``data``."""


def _add_parallel(listing: Listing, root: str, data: DataSection) -> None:
    images = _inside(root, data.images)
    add_folder(
        listing, images, None if data.masks is None else _inside(root, data.masks),
        image_suffix=data.image_suffix, mask_suffix=data.mask_suffix, prefix=f"{images}/".removeprefix(f"{root}/"),
    )  # fmt: skip


def _inside(root: str, folder: str) -> str:
    folder = folder.rstrip("/")
    return root if folder in ("", ".") else f"{root}/{folder}"


def _add_list(listing: Listing, root: str, data: DataSection) -> None:
    add_list(listing, root)


_LAYOUTS: Mapping[str, Layout] = {
    "folder": _add_parallel,
    "list": _add_list,
    "camvid": add_camvid,
    "pairs": add_pairs,
    "isbi": add_isbi,
    "cityscapes": add_cityscapes,
    "voc": add_voc,
    "carla": add_carla,
    "synthetic": _add_parallel,
}
_LABELS: Mapping[str, LabelsSection] = {
    "camvid": LabelsSection(preset="camvid_11"),
    "pairs": LabelsSection(preset="cityscapes_19", scheme="colours", max_distance="any", mode_filter=3),
    "isbi": LabelsSection(preset="isbi"),
    "cityscapes": LabelsSection(preset="cityscapes_19"),
    "voc": LabelsSection(preset="voc"),
    "carla": LabelsSection(preset="carla", scheme="channel"),
    "synthetic": LabelsSection(classes=synthetic.CLASSES, palette=synthetic.PALETTE),
}


def labels_of(config: Config) -> LabelsSection:
    """Return the ``labels`` section with what it leaves to the layout filled in."""
    labels, own = config.labels, _LABELS.get(config.data.layout, LabelsSection())
    if labels.scheme not in (None, own.scheme or "ids"):
        own = replace(own, max_distance=None, mode_filter=None)  # what is known of another scheme
    if labels.preset is None and not labels.classes and labels.scheme != "bins":
        palette = labels.palette or own.palette
        labels = replace(labels, preset=own.preset, classes=own.classes, palette=palette)
    return replace(
        labels,
        scheme=labels.scheme or own.scheme or "ids",
        max_distance=own.max_distance if labels.max_distance is None else labels.max_distance,
        mode_filter=own.mode_filter if labels.mode_filter is None else labels.mode_filter,
    )


@contextmanager
def list_inputs(config: Config) -> Iterator[Listing]:
    """List what ``prepare`` reads, each row with its split; the listing lasts as long as the ``with`` block.

    Raises:
        ConfigError: The layout needs a setting that is missing, or has masks that the labels do not read.
        DatasetError: The input is empty, or not laid out as promised, or the train split is empty.
    """
    data = config.data
    with Listing() as listing:
        try:
            add_layout(listing, data.layout, root_of(config), config)
        except DatasetError as error:
            raise _with_hint(error, config) from None
        _check_labels(listing, labels_of(config))
        if data.unlabelled == "skip":
            _skip_unlabelled(listing)
        if data.group_pattern is not None:
            listing.assign_groups(data.group_pattern)
        listing.assign_splits(data, config.run.seed)
        _check_splits(listing, data)
        yield listing


def add_layout(listing: Listing, name: str, root: str, config: Config) -> None:
    """Add what lies under ``root`` by the layout of a name; videos are what needs more than ``data``.

    Raises:
        ConfigError: The layout is none of ours and cannot be imported.
        DatasetError: The input is empty or not laid out as promised.
    """
    if name == "video":
        add_video(listing, root, config)
    else:
        layout_of(name)(listing, root, config.data)


def layout_of(name: str) -> Layout:
    """Return the layout of a name, ours or ``package.module:function``.

    Raises:
        ConfigError: The module or the function is not there.
    """
    if name in _LAYOUTS:
        return _LAYOUTS[name]
    module, _, function = name.partition(":")
    try:
        found: Layout = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"data.layout: {name} cannot be imported ({error}); check PYTHONPATH") from None
    return found


def root_of(config: Config) -> str:
    """Return the URI of the input: for drawn scenes the folder with ``images/`` and ``masks/``.

    Raises:
        ConfigError: The layout needs one, and ``data.root`` is not set.
    """
    if config.data.root is None and config.data.layout == "synthetic":
        return f"{config.run_uri}/frames"
    if config.data.root is None:
        raise ConfigError(f"data.root: must be the URI of the input when data.layout is {config.data.layout}, got None")
    return config.data.root.rstrip("/")


def _check_labels(listing: Listing, labels: LabelsSection) -> None:
    """Refuse labels by which all the masks that the layout knows would be quarantined or, worse, misread."""
    known = listing.mask_kind
    if known is None or labels.scheme in ("bins", "kmeans"):
        return
    if (labels.scheme == "colours") != known.colours or labels.preset not in (None, *known.presets):
        scheme, held = ("colours", "colours") if known.colours else ("ids", "class ids")
        raise ConfigError(
            f"labels.scheme: the masks hold {held}, got {labels.scheme} with labels.preset: {labels.preset}; set "
            f"labels.scheme: {scheme}, and labels.preset: {' or '.join(known.presets)}"
        )


def _with_hint(error: DatasetError, config: Config) -> DatasetError:
    layout = looks_like(root_of(config))
    if layout in (None, config.data.layout):
        return error
    return DatasetError(f"{error}; it looks like data.layout: {layout}")


def _skip_unlabelled(listing: Listing) -> None:
    listing.drop_unlabelled()
    skipped = listing.unlabelled
    if not listing.num_rows:
        raise DatasetError(
            f"0 of {skipped.count} images have a mask, such as {skipped.uris[0]} has none, and data.unlabelled: skip "
            "leaves those out; check data.masks"
        )
    logger.info("%d images have no mask and are left out (data.unlabelled)", skipped.count)


def _check_splits(listing: Listing, data: DataSection) -> None:
    rows, groups = listing.splits["rows"], listing.splits["groups"]
    if not rows["train"]:
        fix = "list some" if data.split == "lists" else "lower data.val_fraction"
        if data.has_named_groups:
            fix = "name fewer in data.val_groups and data.test_groups"
        raise DatasetError(f"no image is in the train split, of {listing.num_rows} found; {fix}")
    logger.info(
        "split by %s: %s; %d group(s) in more than one",
        data.split,
        ", ".join(f"{name} {rows[name]} images of {groups[name]} group(s)" for name in rows),
        listing.splits["shared_groups"],
    )
    for name, fraction in (("val", data.val_fraction), ("test", data.test_fraction)):
        if fraction and not rows[name] and data.split != "lists" and not data.has_named_groups:
            logger.warning(
                "data.%s_fraction: %g of %d images is none, the %s split is empty",
                *(name, fraction, listing.num_rows, name),
            )
