"""The frames that are timed: CamVid's, or drawn ones of their size."""

import os
from pathlib import Path

import cv2

from unet_ray.datasets import synthetic


def frames(folder: Path) -> tuple[Path, Path]:
    """Put images and masks side by side: CamVid's, or drawn ones of the same size."""
    images, masks = folder / "images", folder / "masks"
    images.mkdir(parents=True)
    masks.mkdir()
    data = Path(os.environ.get("UNET_RAY_DATA", Path(__file__).parents[3] / "shared" / "data")) / "camvid"
    if data.exists():
        for split in ("train", "val"):
            for path in (data / split).iterdir():
                (images / path.name).symlink_to(path)
                (masks / f"{path.stem}.png").symlink_to(data / f"{split}annot" / f"{path.stem}.png")
        return images, masks
    for number in range(400):
        image, mask = synthetic.render_frame(0, number // 40, number % 40, 360, 480)
        cv2.imwrite(str(images / f"{number:04d}.jpg"), image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
        cv2.imwrite(str(masks / f"{number:04d}.png"), mask)
    return images, masks
