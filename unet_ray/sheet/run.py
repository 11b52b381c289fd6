"""Drawing the contact sheet: a few training pairs, each as it is and as training sees it in its first epochs."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from unet_ray import storage
from unet_ray.augment.colour import apply_colour
from unet_ray.augment.keys import make_rng
from unet_ray.augment.pair import augment_pair
from unet_ray.config import Config
from unet_ray.datasets.frames import read_frame
from unet_ray.datasets.prepared import Prepared, index_split, open_dataset
from unet_ray.sheet.draw import Strip, Tile, draw_sheet

_MOST_PAIRS = 4
_EPOCHS = 5


@dataclass(frozen=True, kw_only=True)
class SheetResult:
    """Where the sheet is, and how many pairs it shows in how many epochs."""

    sheet: str
    pairs: int
    epochs: int


def run(config: Config) -> SheetResult:
    """Write ``augment.png`` of a run: pairs spread over the train split, and their crops in epochs 1 to 5.

    The crops are those that training gets under this configuration, but for the normalisation of their colours and,
    where the network has one, the margin around them.

    Raises:
        TableError: The dataset is missing or not complete.
        DatasetError: Its train split holds no usable pair.
    """
    prepared = open_dataset(config.dataset_uri)
    train = index_split(prepared, "train")
    crop = config.crop_of(train["height"][0].as_py(), train["width"][0].as_py())
    chosen = np.unique(np.linspace(0, len(train) - 1, _MOST_PAIRS).round().astype(np.int64))
    strips = [_make_strip(row, config, prepared, crop) for row in train.take(chosen).to_pylist()]
    title = f"{config.run.name}: training crops of {crop[0]} x {crop[1]} px, seed {config.run.seed}"
    uri = f"{config.run_uri}/augment.png"
    storage.write(uri, draw_sheet(strips, title, prepared.classes.classes, prepared.classes.palette))
    sys.stderr.write(f"contact sheet: {uri}\n")
    return SheetResult(sheet=uri, pairs=len(strips), epochs=_EPOCHS)


def _make_strip(row: Mapping[str, Any], config: Config, prepared: Prepared, crop: tuple[int, int]) -> Strip:
    located = {**row, "part_uri": prepared.table.part_uris()[row["part"]]}
    image, mask = read_frame(located, prepared.classes, config.images)
    assert mask is not None
    tiles = []
    for epoch in range(1, _EPOCHS + 1):
        rngs = partial(make_rng, config.run.seed, epoch, row["image_id"])
        made = augment_pair(image, mask, config.augment, rngs, crop)
        tiles.append(Tile(apply_colour(made.image, made.colour), made.mask))
    return Strip(row["image_id"], Tile(image, mask), tiles)
