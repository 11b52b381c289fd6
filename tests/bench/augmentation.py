"""What augmentation costs: one thread's time for a pair of 360 x 480 px to a crop of 240 x 320 px.

``python -m tests.bench.augmentation`` prints milliseconds for the defaults, for each option beside them, and for all.
"""

import statistics
import sys
import time
from functools import partial

import cv2

from unet_ray.augment.keys import make_rng
from unet_ray.augment.pair import augment_pair
from unet_ray.config_training import AugmentSection
from unet_ray.datasets.synthetic import render_frame

OPTIONS = {
    "balance": 1.0,
    "rotate": 15.0,
    "translate": 0.1,
    "shear": 10.0,
    "perspective": 0.1,
    "elastic": 1.0,
    "hue": 20.0,
    "blur": 1.0,
    "noise": 1.0,
    "sharpen": 1.0,
    "jpeg": 1.0,
    "cutout": 2,
}
REPEATS = 300


def main() -> None:
    """Print one line for each section, the median of many pairs."""
    cv2.setNumThreads(1)
    image, mask = render_frame(0, 0, 0, 360, 480)
    sections = {"defaults": {}, **{f"+ {key}": {key: value} for key, value in OPTIONS.items()}, "all": OPTIONS}
    for name, options in sections.items():
        section = AugmentSection(**options)  # type: ignore[arg-type]
        seconds = []
        for number in range(-10, REPEATS):
            start = time.thread_time()
            augment_pair(image, mask, section, partial(make_rng, 0, 1, str(number)), (240, 320))
            seconds.append(time.thread_time() - start)
        sys.stdout.write(f"{name:14} {1000 * statistics.median(seconds[10:]):6.2f} ms\n")


if __name__ == "__main__":
    main()
