"""Every kind of bad input becomes a row with a reason, and the job goes on."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from unet_ray import prepare
from unet_ray.config import Config
from unet_ray.datasets.synthetic import render_frame
from unet_ray.errors import QuarantineLimitError
from unet_ray.predict import run as predict
from unet_ray.table.read import open_table
from unet_ray.train import run as train

pytestmark = pytest.mark.usefixtures("ray_cluster")

REASONS = {
    "images/truncated.jpg": "truncated",
    "images/empty.png": "empty_object",
    "images/text.png": "not_an_image",
    "images/size.png": "mask_size_mismatch",
    "images/unknown.png": "class_id_out_of_range",
    "images/lonely.png": "missing_mask",
}


@pytest.fixture
def spoiled(tmp_path: Path) -> Path:
    """Twelve good pairs and six bad ones, in parallel folders."""
    root = tmp_path / "input"
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()

    def put(name: str, image: bytes, mask: np.ndarray | None) -> None:
        (root / "images" / name).write_bytes(image)
        if mask is not None:
            cv2.imwrite(str(root / "masks" / f"{Path(name).stem}.png"), mask)

    for frame in range(12):
        image, mask = render_frame(0, 0, frame, 48, 64)
        put(f"good_{frame}.png", cv2.imencode(".png", image)[1].tobytes(), mask)
    png, jpg = cv2.imencode(".png", image)[1].tobytes(), cv2.imencode(".jpg", image)[1].tobytes()
    unknown = mask.copy()
    unknown[:2] = 77
    put("truncated.jpg", jpg[: len(jpg) // 2], mask)
    put("empty.png", b"", mask)
    put("text.png", b"<html>404 not found</html>", mask)
    put("size.png", png, mask[:-1])
    put("unknown.png", png, unknown)
    put("lonely.png", png, None)
    (root / "images" / "README.txt").write_text("not an image")
    return root


def test_bad_pairs_become_rows_with_a_reason_and_the_rest_is_prepared_and_trained_on(
    make_config: Callable[..., Config], spoiled: Path
) -> None:
    config = make_config(
        data__layout="folder",
        data__root=str(spoiled),
        data__split="hash",
        data__max_quarantined_fraction="0.5",
        labels__classes="[sky, building, road, pavement, tree, pole, car, pedestrian]",
        train__epochs="1",
    )
    result = prepare.run(config)
    assert (result.images, result.ok, result.quarantined) == (18, 12, 6)
    assert result.errors == {code: 1 for code in sorted(REASONS.values())}
    assert result.skipped_objects == 1
    rows = open_table(config.dataset_uri).read(["row_id", "image_id", "status", "error_code", "error_message", "mask"])
    bad = {row["image_id"]: row for row in rows.to_pylist() if row["status"] == "quarantined"}
    assert {image_id: row["error_code"] for image_id, row in bad.items()} == REASONS
    assert all(row["mask"] is None and row["error_message"] for row in bad.values())
    assert "77 (128 px)" in bad["images/unknown.png"]["error_message"]
    stats = json.loads(Path(f"{config.dataset_uri}/stats.json").read_text())
    assert sum(sum(split["errors"].values()) for split in stats["splits"].values()) == 6

    train.run(config)
    folder = make_config(
        predict__images=str(spoiled / "images"),
        predict__masks=str(spoiled / "masks"),
        data__max_quarantined_fraction="0.5",
    )
    predicted = predict.run(folder)
    assert (predicted.frames, predicted.ok, predicted.quarantined) == (18, 13, 5)
    assert predicted.errors == {code: 1 for code in sorted(REASONS.values()) if code != "missing_mask"}
    lonely = next(
        row
        for row in open_table(folder.predictions_uri).read(["row_id", "image_id", "status", "confusion"]).to_pylist()
        if row["image_id"] == "lonely.png"
    )
    assert (lonely["status"], lonely["confusion"]) == ("ok", None)


def test_too_many_bad_pairs_stop_the_job_and_repairing_them_needs_another_output(
    make_config: Callable[..., Config], spoiled: Path
) -> None:
    changes = {
        "data__layout": "folder",
        "data__root": str(spoiled),
        "data__split": "hash",
        "labels__classes": "[sky, building, road, pavement, tree, pole, car, pedestrian]",
    }
    with pytest.raises(QuarantineLimitError, match=r"data\.max_quarantined_fraction: [4-6] of 18 rows cannot be used"):
        prepare.run(make_config(**changes))
    raised = prepare.run(make_config(**changes, data__max_quarantined_fraction="0.4"))
    assert raised.quarantined == 6
    for name in REASONS:
        (spoiled / name).unlink()
    repaired = prepare.run(make_config(**changes, data__dataset=str(spoiled.parent / "repaired")))
    assert (repaired.images, repaired.quarantined, repaired.unpaired_masks) == (12, 0, 5)
