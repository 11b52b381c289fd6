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
from unet_ray.datasets.inputs import add_folder, add_list
from unet_ray.datasets.isbi import add_isbi
from unet_ray.datasets.listing import Listing
from unet_ray.datasets.pairs import add_pairs
from unet_ray.datasets.sniff import looks_like
from unet_ray.errors import ConfigError, DatasetError

logger = logging.getLogger(__name__)

Layout = Callable[[Listing, str, DataSection], None]
"""What adds the rows of an input: to the listing, from the URI of the root, by the settings of ``data``."""

_SPLITS = ("train", "val", "test")


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
    "synthetic": _add_parallel,
}
_LABELS: Mapping[str, LabelsSection] = {
    "camvid": LabelsSection(preset="camvid_11"),
    "pairs": LabelsSection(preset="cityscapes_19", scheme="colours", max_distance="any", mode_filter=3),
    "isbi": LabelsSection(preset="isbi"),
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
        ConfigError: The layout needs a setting that is missing.
        DatasetError: The input is empty, or not laid out as promised, or the train split is empty.
    """
    data = config.data
    with Listing() as listing:
        try:
            layout_of(data.layout)(listing, root_of(config), data)
        except DatasetError as error:
            raise _with_hint(error, config) from None
        if data.unlabelled == "skip":
            _skip_unlabelled(listing)
        if data.split == "lists":
            _check_lists(listing)
        else:
            listing.assign_splits(data.split, config.run.seed, data.val_fraction, data.test_fraction)
        if not any(row["split"] == "train" for row in listing.rows()):
            raise DatasetError(f"no image is in the train split, of {listing.num_rows} found; lower data.val_fraction")
        yield listing


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


def _check_lists(listing: Listing) -> None:
    for row in listing.rows():
        if row["split"] not in _SPLITS:
            raise DatasetError(
                f"data.split: lists needs train, val or test for every image, {row['image_id']} has "
                f"{row['split'] or 'none'!r}; give the list a split column, or use another data.split"
            )
