from functools import partial
from typing import Any

import numpy as np
import pytest

from tests.unit.image_files import POLICY
from unet_ray.augment.colour import normalise_colour
from unet_ray.augment.keys import make_rng
from unet_ray.augment.pair import augment_pair
from unet_ray.config_training import AugmentSection
from unet_ray.datasets.frames import read_frame
from unet_ray.datasets.prepared import index_split, open_dataset
from unet_ray.train.feed import Source, make_crop

MEAN, STD = (110.0, 100.0, 90.0), (50.0, 60.0, 70.0)


@pytest.mark.parametrize("margin", [0, 5])
def test_a_crop_is_the_augmented_pair_of_its_row_and_epoch(dataset_uri: str, margin: int) -> None:
    prepared = open_dataset(dataset_uri)
    section = AugmentSection(elastic=0.5, noise=0.5, cutout=1, balance=0.5)
    absent: Any = None  # what finds the rows is not asked here
    source = Source(
        train=absent,
        val=None,
        part_uris=tuple(prepared.table.part_uris()),
        classes=prepared.classes,
        policy=POLICY,
        seed=3,
        augment=section,
        crop=(8, 16),
        mean=MEAN,
        std=STD,
        margin=margin,
    )
    for row in index_split(prepared, "train").slice(0, 3).to_pylist():
        pair = read_frame(row | {"part_uri": source.part_uris[row["part"]]}, prepared.classes, POLICY)
        assert pair[1] is not None
        for epoch in (1, 2):
            wanted = augment_pair(*pair, section, partial(make_rng, 3, epoch, row["image_id"]), (8, 16), margin)
            found = make_crop(row, source, epoch)
            assert found["image"] == wanted.image.tobytes()
            assert found["mask"] == wanted.mask.tobytes()
            colour = normalise_colour(wanted.colour, np.array(MEAN, np.float32), np.array(STD, np.float32))
            assert found["colour"] == colour.tobytes()
            assert len(found["image"]) == 3 * (8 + 2 * margin) * (16 + 2 * margin)
