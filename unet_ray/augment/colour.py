"""Colours: one affine map of RGB values per crop, applied on the device together with the normalisation."""

import numpy as np
from numpy.typing import NDArray

from unet_ray.config_training import AugmentSection

_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # luma of ITU-R BT.601
_MIDDLE = 127.5
_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])  # NTSC 1953


def sample_colour(section: AugmentSection, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw brightness, contrast, saturation and hue as one affine map of RGB values in 0..255.

    Returns:
        ``(3, 4)`` float32: ``rgb -> M[:, :3] @ rgb + M[:, 3]``. Results are not clipped to 0..255.
    """
    brightness, contrast, saturation = (
        float(rng.uniform(1 - spread, 1 + spread))
        for spread in (section.brightness, section.contrast, section.saturation)
    )
    mix = saturation * np.eye(3) + (1 - saturation) * _GREY[None, :]
    if section.hue:
        mix = mix @ turn_hue(float(rng.uniform(-section.hue, section.hue)))
    matrix = np.empty((3, 4), np.float32)
    matrix[:, :3] = contrast * brightness * mix
    matrix[:, 3] = (1 - contrast) * _MIDDLE
    return matrix


def turn_hue(degrees: float) -> NDArray[np.float64]:
    """Return the ``(3, 3)`` map of RGB that turns the chroma plane of YIQ: greys and lightness stay as they are."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    return np.asarray(np.linalg.solve(_TO_YIQ, turn @ _TO_YIQ))


def apply_colour(image: NDArray[np.uint8], matrix: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Apply a ``(3, 4)`` colour map to an ``(H, W, 3)`` uint8 image, to be looked at: rounded, clipped to 0..255."""
    changed = image @ matrix[:, :3].T + matrix[:, 3]
    return np.asarray(np.rint(changed.clip(0, 255)), np.uint8)


def normalise_colour(
    matrix: NDArray[np.float32], mean: NDArray[np.float32], std: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Compose a ``(3, 4)`` colour map with ``(rgb - mean) / std``, so that the device applies both at once."""
    composed = matrix.copy()
    composed[:, 3] -= mean
    return np.asarray(composed / std[:, None], np.float32)
