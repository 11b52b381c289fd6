from pathlib import Path

import pytest

from tests.unit.layout_files import (
    check,
    draw_carla,
    draw_cityscapes,
    draw_kaggle_camvid,
    draw_original_camvid,
    draw_segnet_camvid,
    draw_voc,
    mask_of,
    rows_of,
)
from unet_ray.config import Config
from unet_ray.config_input import DataSection, LabelsSection
from unet_ray.datasets.listing import Row
from unet_ray.errors import DatasetError

CAMVID_COLOURS = LabelsSection(preset="camvid_32_to_11", scheme="colours")
LAYOUTS = {
    "cityscapes": (draw_cityscapes, LabelsSection()),
    "camvid": (draw_segnet_camvid, LabelsSection()),
    "camvid, Kaggle": (draw_kaggle_camvid, CAMVID_COLOURS),
    "camvid, original": (draw_original_camvid, CAMVID_COLOURS),
    "voc": (draw_voc, LabelsSection()),
    "carla": (draw_carla, LabelsSection()),
}


def config_of(layout: str, root: str, labels: LabelsSection | None = None) -> Config:
    data = DataSection(layout=layout.partition(",")[0], root=root, val_fraction=0)
    return Config(data=data, labels=labels or LabelsSection())


def portable(rows: list[Row], root: str) -> list[Row]:
    """Return rows without what another store says differently: where it is, and its entity tags."""
    return [
        {
            name: value.removeprefix(root) if name.endswith("_uri") and value else value
            for name, value in row.items()
            if not name.endswith("_etag")
        }
        for row in rows
    ]


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_is_the_same_in_a_store_and_on_a_disk(name: str, s3_bucket: str, tmp_path: Path) -> None:
    draw, labels = LAYOUTS[name]
    there, here = (config_of(name, f"{root}/data", labels) for root in (s3_bucket, tmp_path))
    for config in (there, here):
        assert config.data.root is not None
        draw(config.data.root)
    assert portable(rows_of(there), s3_bucket) == portable(rows_of(here), str(tmp_path))
    good, local = ([mask_of(row) for row in check(config) if row["status"] == "ok"] for config in (there, here))
    assert good == local
    assert good


def test_a_kit_is_found_deep_in_a_bucket(s3_bucket: str) -> None:
    draw_voc(f"{s3_bucket}/VOCdevkit/VOC2012")
    rows = rows_of(config_of("voc", s3_bucket))
    assert rows[0]["image_id"] == "VOCdevkit/VOC2012/JPEGImages/2007_000039.jpg"


@pytest.mark.parametrize("layout", ["cityscapes", "camvid", "voc", "carla"])
@pytest.mark.parametrize(("bucket", "found"), [("", "found nothing; check"), ("-nowhere", "no such folder; check")])
def test_a_prefix_that_holds_nothing_is_refused(layout: str, bucket: str, found: str, s3_bucket: str) -> None:
    with pytest.raises(DatasetError, match=rf"{found} data\.root"):
        rows_of(config_of(layout, f"{s3_bucket}{bucket}/data"))
