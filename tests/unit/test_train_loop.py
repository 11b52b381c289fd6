import numpy as np
import pyarrow as pa
import pytest
import torch

from unet_ray.augment.colour import normalise_colour, sample_colour
from unet_ray.augment.keys import make_rng
from unet_ray.config_training import AugmentSection
from unet_ray.train.feed import CROPS
from unet_ray.train.loop import load_batch

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")


def test_a_batch_on_the_device_is_the_crops_with_their_colour_maps_applied() -> None:
    rng = np.random.default_rng(0)
    crop, mean, std = (4, 6), np.array([100, 110, 120], np.float32), np.array([50, 60, 70], np.float32)
    images = rng.integers(256, size=(3, *crop, 3), dtype=np.uint8)
    masks = rng.integers(256, size=(3, *crop), dtype=np.uint8)
    colours = [sample_colour(AugmentSection(), make_rng(0, 1, str(number))) for number in range(3)]
    maps = [normalise_colour(colour, mean, std) for colour in colours]
    rows = pa.Table.from_pylist(
        [
            {"image": image.tobytes(), "mask": mask.tobytes(), "colour": colour.tobytes()}
            for image, mask, colour in zip(images, masks, maps, strict=True)
        ],
        schema=CROPS,
    )
    image_BCHW, mask_BHW = load_batch(rows, crop, CPU)
    assert (image_BCHW.shape, image_BCHW.dtype) == ((3, 3, 4, 6), torch.float32)
    assert image_BCHW.is_contiguous(memory_format=torch.channels_last)
    assert mask_BHW.dtype == torch.int64
    np.testing.assert_array_equal(mask_BHW.numpy(), masks)
    for image, colour, found_CHW in zip(images, colours, image_BCHW.numpy(), strict=True):
        changed = image.astype(np.float64) @ colour[:, :3].T.astype(np.float64) + colour[:, 3]
        np.testing.assert_allclose(found_CHW.transpose(1, 2, 0), (changed - mean) / std, atol=1e-4)


def test_a_batch_can_be_cut_from_a_longer_table() -> None:
    crop = (2, 2)
    cells = [
        {
            "image": bytes([10 * number] * 12),
            "mask": bytes([number] * 4),
            "colour": np.eye(3, 4, dtype=np.float32).tobytes(),
        }
        for number in range(5)
    ]
    image_BCHW, mask_BHW = load_batch(pa.Table.from_pylist(cells, schema=CROPS).slice(2, 2), crop, CPU)
    assert image_BCHW[:, 0, 0, 0].tolist() == [20, 30]
    assert mask_BHW[:, 0, 0].tolist() == [2, 3]
