"""Augmentation: one affine warp per pair, one colour matrix per image, both drawn from a key, not from a state.

The random numbers of a pair follow from (seed, epoch, image_id) alone, so they do not depend on workers, order or
resumption. Geometry runs in Ray Data tasks; the colour matrix travels with the crop and is applied on the device
together with the normalisation. Evaluation has no path to any of this.
"""

import hashlib

import cv2
import numpy as np
from numpy.typing import NDArray

from unet_ray.config_training import AugmentSection
from unet_ray.schema import IGNORE_INDEX

_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # luma of ITU-R BT.601
_MIDDLE = 127.5


def make_rng(seed: int, epoch: int, image_id: str) -> np.random.Generator:
    """Return the random numbers of one pair in one epoch."""
    digest = hashlib.blake2b(f"{seed}/{epoch}/{image_id}".encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(int.from_bytes(digest, "little")))


def sample_affine(
    section: AugmentSection, rng: np.random.Generator, source: tuple[int, int], crop: tuple[int, int]
) -> NDArray[np.float64]:
    """Draw a zoom, flips and a position as one map from crop to source pixels.

    Args:
        section: Ranges and probabilities.
        rng: Random numbers of the pair.
        source: Height and width of the pair.
        crop: Height and width of the crop; where it is larger than the zoomed pair, the pair lies in it at random.

    Returns:
        ``(2, 3)`` float64: crop ``(x, y, 1)`` to source ``(x, y)``, between pixel centres.
    """
    low, high = section.scale
    zoom = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    affine = np.zeros((2, 3))
    for axis, flip in ((0, section.hflip), (1, section.vflip)):
        size, window = source[1 - axis], crop[1 - axis]
        slack = size * zoom - window
        start = rng.uniform(min(0.0, slack), max(0.0, slack))
        sign = -1 if rng.random() < flip else 1
        affine[axis, axis] = sign / zoom
        affine[axis, 2] = (start + 0.5) / zoom - 0.5
        if sign < 0:
            affine[axis, 2] = (start + window - 0.5) / zoom - 0.5
    return affine


def warp_pair(
    image: NDArray[np.uint8], mask: NDArray[np.uint8], affine: NDArray[np.float64], crop: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Cut the ``crop`` that ``affine`` (`sample_affine`) sees out of an ``(H, W, 3)`` image and its ``(H, W)`` mask.

    The image is interpolated once and mid-grey outside; the mask keeps its ids and is ignored (255) outside.
    """
    size = crop[::-1]
    flags = cv2.WARP_INVERSE_MAP
    grey = (_MIDDLE, _MIDDLE, _MIDDLE)
    warped = cv2.warpAffine(image, affine, size, flags=flags | cv2.INTER_LINEAR, borderValue=grey)
    ids = cv2.warpAffine(mask, affine, size, flags=flags | cv2.INTER_NEAREST, borderValue=(IGNORE_INDEX,))
    return np.asarray(warped, np.uint8), np.asarray(ids, np.uint8)


def sample_colour(section: AugmentSection, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw brightness, contrast and saturation as one affine map of RGB values in 0..255.

    Returns:
        ``(3, 4)`` float32: ``rgb -> M[:, :3] @ rgb + M[:, 3]``. Results are not clipped to 0..255.
    """
    brightness, contrast, saturation = (
        float(rng.uniform(1 - spread, 1 + spread))
        for spread in (section.brightness, section.contrast, section.saturation)
    )
    mix = saturation * np.eye(3) + (1 - saturation) * _GREY[None, :]
    matrix = np.empty((3, 4), np.float32)
    matrix[:, :3] = contrast * brightness * mix
    matrix[:, 3] = (1 - contrast) * _MIDDLE
    return matrix


def normalise_colour(
    matrix: NDArray[np.float32], mean: NDArray[np.float32], std: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Compose a ``(3, 4)`` colour map with ``(rgb - mean) / std``, so that the device applies both at once."""
    composed = matrix.copy()
    composed[:, 3] -= mean
    return np.asarray(composed / std[:, None], np.float32)
