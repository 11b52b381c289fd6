"""From a configuration to the rows to plan and the classes they have; runs on the driver."""

from collections.abc import Iterator
from contextlib import contextmanager

from unet_ray.config import Config
from unet_ray.datasets import camvid, synthetic
from unet_ray.datasets.inputs import add_folder, add_pairs
from unet_ray.datasets.listing import Listing
from unet_ray.errors import ConfigError, DatasetError
from unet_ray.labels.classes import ClassMap, make_class_map

_SPLITS = ("train", "val", "test")


def class_map_of(config: Config) -> ClassMap:
    """Return the classes: those of ``labels``, or else the layout's own.

    Raises:
        ConfigError: Neither names any, or they do not fit together.
    """
    labels = config.labels
    classes, palette, ignore_ids = labels.classes, labels.palette, labels.ignore_ids
    if not classes and config.data.layout == "camvid":
        classes, palette = camvid.CLASSES, palette or camvid.PALETTE
        ignore_ids = tuple(sorted({*ignore_ids, *camvid.IGNORE_IDS}))
    if not classes and config.data.layout == "synthetic":
        classes, palette = synthetic.CLASSES, palette or synthetic.PALETTE
    return make_class_map(classes, palette, ignore_ids, labels.background)


@contextmanager
def list_inputs(config: Config) -> Iterator[Listing]:
    """List what ``prepare`` reads, each row with its split; the listing lasts as long as the ``with`` block.

    Raises:
        ConfigError: The layout needs a setting that is missing.
        DatasetError: The input is empty, or not laid out as promised, or the train split is empty.
    """
    data = config.data
    with Listing() as listing:
        if data.layout == "camvid":
            camvid.add_camvid(listing, _root(config))
        elif data.layout == "synthetic":
            frames = synthetic_frames_uri(config)
            add_folder(listing, f"{frames}/images", f"{frames}/masks", prefix="images/")
        elif data.pairs is not None:
            add_pairs(listing, data.pairs)
        else:
            root = _root(config)
            masks = None if data.masks is None else f"{root}/{data.masks}"
            images = data.images.rstrip("/")
            add_folder(listing, f"{root}/{images}", masks, mask_suffix=data.mask_suffix, prefix=f"{images}/")
        if data.split == "lists":
            _check_lists(listing)
        else:
            listing.assign_splits(data.split, config.run.seed, data.val_fraction, data.test_fraction)
        if not any(row["split"] == "train" for row in listing.rows()):
            raise DatasetError(f"no image is in the train split, of {listing.num_rows} found; lower data.val_fraction")
        yield listing


def synthetic_frames_uri(config: Config) -> str:
    """Return the folder of the drawn frames, with ``images/`` and ``masks/``."""
    return config.data.root or f"{config.run_uri}/frames"


def _root(config: Config) -> str:
    if config.data.root is None:
        raise ConfigError(f"data.root: must be the URI of the input when data.layout is {config.data.layout}, got None")
    return config.data.root.rstrip("/")


def _check_lists(listing: Listing) -> None:
    for row in listing.rows():
        if row["split"] not in _SPLITS:
            raise DatasetError(
                f"data.split: lists needs train, val or test for every image, {row['image_id']} has "
                f"{row['split'] or 'none'!r}; give data.pairs a split column, or use data.split: hash"
            )
