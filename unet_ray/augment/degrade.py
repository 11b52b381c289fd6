"""The faults of a camera, on the pixels of a crop: each happens or not, and no mask ever changes."""

from functools import lru_cache
from statistics import NormalDist

import cv2
import numpy as np
from numpy.typing import NDArray

from unet_ray.augment.keys import Rngs, roll
from unet_ray.config_training import AugmentSection

_SHARPEN_SIGMA_PX = 1.0
_STEPS = 2**16


def degrade(image: NDArray[np.uint8], section: AugmentSection, rngs: Rngs) -> NDArray[np.uint8]:
    """Degrade an ``(H, W, 3)`` uint8 RGB image as cameras do, in their order.

    The lens blurs (Gaussian), the sensor adds noise (Gaussian, of each value by itself), the camera sharpens (unsharp
    mask of 1 px) and stores a JPEG.
    """
    if (rng := roll(rngs, "blur", section.blur)) is not None:
        image = _uint8(cv2.GaussianBlur(image, (0, 0), rng.uniform(*section.blur_sigma)))
    if (rng := roll(rngs, "noise", section.noise)) is not None:
        std = np.float32(rng.uniform(*section.noise_std))
        noise = (std * _normal_steps()).take(rng.integers(_STEPS, size=image.shape, dtype=np.uint16))
        image = _uint8(cv2.add(image, noise, dtype=cv2.CV_8U))
    if (rng := roll(rngs, "sharpen", section.sharpen)) is not None:
        amount, smooth = rng.uniform(*section.sharpen_amount), cv2.GaussianBlur(image, (0, 0), _SHARPEN_SIGMA_PX)
        image = _uint8(cv2.addWeighted(image, 1 + amount, smooth, -amount, 0))
    if (rng := roll(rngs, "jpeg", section.jpeg)) is not None:
        low, high = section.jpeg_quality
        image = _through_jpeg(image, int(rng.integers(low, high, endpoint=True)))
    return image


@lru_cache(maxsize=1)
def _normal_steps() -> NDArray[np.float32]:
    """Return the normal distribution as equally likely values: one is drawn five times as fast as a normal number."""
    normal = NormalDist()
    return np.array([normal.inv_cdf((step + 0.5) / _STEPS) for step in range(_STEPS)], np.float32)


def _through_jpeg(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    data = cv2.imencode(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, quality))[1]
    return _uint8(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB))


def _uint8(pixels: object) -> NDArray[np.uint8]:
    return np.asarray(pixels, np.uint8)
