"""What a frame costs in a long job, and with frames and masks in S3: ``python -m tests.bench.scale [FRAMES]``.

The length of a job: small frames and a small network, so what is timed is all but the network; a hundredth, a tenth
and all of FRAMES (100,000). S3: CamVid frames by a network of width 16, in a store and on disk. Neither is part of
``make bench``: the first takes minutes, the second starts a server.
"""

import os
import resource
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tests import s3server
from tests.bench.clock import print_rows, row
from tests.bench.frames import frames
from tests.bench.prediction import make_config, save_untrained, take, time_predict
from unet_ray import runtime, s3, storage
from unet_ray.config import Config
from unet_ray.config_file import parse_config

_SIDE = 32
_COPIES = 3


def measure_length(scratch: Path, most: int) -> list[dict[str, Any]]:
    """Return what a frame more costs in a job of ``most`` frames and in one of a tenth, and the driver's memory."""
    timed = []
    for size in (most // 100, most // 10, most):
        timed.append((*time_predict(small_config(scratch, write_small(scratch / str(size), size))), _peak_mb()))
    (least, least_s, _), (few, few_s, few_mb), (many, many_s, many_mb) = timed
    short, long = (few_s - least_s) / (few - least), (many_s - few_s) / (many - few)
    return [
        row(f"a frame more, of {many:,}", 1000 * long, "ms", f"a frame more, of {few:,}", 1000 * short),
        row(f"most memory of the driver, {many:,}", many_mb, "MB", f"{few:,} frames", few_mb),
    ]


def write_small(folder: Path, number: int) -> Path:
    """Write so many files of few pixels: links to a hundred, as only their number matters."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in range(number):
        path = folder / f"{name:07}.png"
        if name < 100:
            cv2.imwrite(str(path), rng.integers(0, 256, (_SIDE, _SIDE, 3), np.uint8))
        else:
            os.link(folder / f"{name % 100:07}.png", path)
    return folder


def small_config(scratch: Path, images: Path) -> Config:
    """Return a prediction of small frames by a small network."""
    document = {
        "run": {"storage": str(scratch), "name": "small"},
        "labels": {"preset": "camvid_11"},
        "model": {"width": 2, "depth": 1},
        "predict": {"images": str(images), "output": f"{images}.out", "batch_size": 32},
    }
    config = parse_config(document, {}, "bench")
    save_untrained(config)
    return config


def measure_s3(scratch: Path) -> list[dict[str, Any]]:
    """Return the rate with frames and masks in S3 against the rate on disk, by turns."""
    images, _ = frames(scratch / "input")
    bucket = "s3://bench"
    s3.s3fs_client().call_s3("create_bucket", Bucket="bench")
    local = scratch / "many"
    local.mkdir()
    for copy in range(_COPIES):
        for path in sorted(images.iterdir()):
            data = path.read_bytes()
            (local / f"{copy}_{path.name}").write_bytes(data)
            storage.write(f"{bucket}/many/{copy}_{path.name}", data)
    few = take(local, scratch / "few", 8)
    for path in few.iterdir():
        storage.write(f"{bucket}/few/{path.name}", path.read_bytes())
    config = make_config(scratch, "s3", local, 16)
    save_untrained(config)
    rates: dict[str, list[float]] = {"disk": [], "s3": []}
    for turn in range(2):
        for place, root in (("disk", str(scratch)), ("s3", bucket)):
            (some, some_s), (every, every_s) = (
                time_predict(
                    replace(
                        config,
                        predict=replace(config.predict, images=f"{root}/{name}", output=f"{root}/out_{turn}/{name}"),
                    )
                )
                for name in ("few", "many")
            )
            rates[place].append((every - some) / (every_s - some_s))
    return [row("predict, frames and masks in S3", max(rates["s3"]), "frames/s", "on disk", max(rates["disk"]))]


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure and print."""
    most = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "server").mkdir()
        server = s3server.start(Path(folder) / "server")
        os.environ |= {
            "AWS_ENDPOINT_URL": server.endpoint, "AWS_ACCESS_KEY_ID": server.access_key,
            "AWS_SECRET_ACCESS_KEY": server.secret_key, "AWS_DEFAULT_REGION": "us-east-1", "AWS_ALLOW_HTTP": "true",
        }  # fmt: skip
        try:
            with runtime.connected():
                print_rows(measure_length(Path(folder), most))
                print_rows(measure_s3(Path(folder)))
        finally:
            s3server.stop(server)


if __name__ == "__main__":
    main()
