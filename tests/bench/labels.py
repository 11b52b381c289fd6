"""How fast masks of colours become class ids: kept by colour, against a search for the nearest one per pixel."""

import time

import cv2
import numpy as np
from numpy.typing import NDArray

from unet_ray.config_input import LabelsSection
from unet_ray.labels.recovery import Recovery
from unet_ray.labels.scheme import make_class_map

MASKS = 40
ROUNDS = 5
HEIGHT, WIDTH = 256, 512


def jpeg_masks(colours: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Draw masks as the image pairs have them: painted large, shrunk with blended edges, stored as JPEG."""
    rng = np.random.default_rng(0)
    masks = []
    for _ in range(MASKS):
        large = np.empty((2 * HEIGHT, 2 * WIDTH, 3), np.uint8)
        large[:] = colours[rng.integers(len(colours))]
        for _ in range(60):
            centre, axes = rng.integers((2 * WIDTH, 2 * HEIGHT)), rng.integers(4, 160, size=2)
            colour = colours[rng.integers(len(colours))].tolist()
            cv2.ellipse(large, centre.tolist(), axes.tolist(), int(rng.integers(180)), 0, 360, colour, -1)
        small = cv2.resize(large, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
        data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 75])[1]
        masks.append(cv2.imdecode(data, cv2.IMREAD_COLOR))
    return masks


def plain_nearest(mask: NDArray[np.uint8], recovery: Recovery) -> NDArray[np.uint8]:
    """Return the class of the nearest colour of every pixel, as one would write it in NumPy."""
    keys, classes = np.array(recovery.keys, np.float32), np.array(recovery.class_ids, np.uint8)
    squares = ((mask[:, :, None].astype(np.float32) - keys) ** 2).sum(axis=3)
    return classes[squares.argmin(axis=2)]


def measure() -> tuple[float, float, float]:
    """Return Mpx per second of one core: of the first mask, of masks whose colours are known, of the plain search."""
    cv2.setNumThreads(1)
    section = LabelsSection(preset="cityscapes_19", scheme="colours", max_distance="any")
    recovery = make_class_map(section).recovery
    masks = jpeg_masks(np.array(recovery.keys, np.uint8))
    start = time.process_time()
    first = recovery.to_class_ids(masks[0])
    cold = time.process_time() - start
    start = time.process_time()
    plain = [plain_nearest(mask, recovery) for mask in masks[:4]]
    searched = time.process_time() - start
    assert np.array_equal(first, plain[0])
    for mask in masks:
        recovery.to_class_ids(mask)
    start = time.process_time()
    for _ in range(ROUNDS):
        for mask in masks:
            recovery.to_class_ids(mask)
    warm = time.process_time() - start
    pixels = HEIGHT * WIDTH / 1e6
    return pixels / cold, ROUNDS * MASKS * pixels / warm, len(plain) * pixels / searched
