"""Names that break programs: every file is planned under its exact name, read by it, or counted as skipped."""

import unicodedata
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from tests.unit.image_files import encode, gradient
from tests.unit.listed_files import list_folder
from unet_ray import s3, storage
from unet_ray.config_input import ImagesSection, LabelsSection
from unet_ray.datasets.frames import fetch_pair
from unet_ray.errors import ImageError
from unet_ray.labels.scheme import make_class_map
from unet_ray.prepare import check_pairs
from unet_ray.schema import DATASET_SUMMED
from unet_ray.table.plan import Terms, create_plan

STEMS = [
    *("plain", "_underscore", ".hidden", "__init__", "two words", " lead and trail ", "dots...", "a.b.c", "-dash"),
    *(
        "50%",
        "a%20b",
        "%2F",
        "%",
        "a+b",
        "a=b&c;d,e",
        "clip#12",
        "what?x=1",
        "~home",
        "back\\slash",
        "!$'\"()*[]{}|^`<>:@",
    ),
    *("new\nline", "tab\there", "caf\u00e9", unicodedata.normalize("NFD", "caf\u00e9"), "\u6f22\u5b57", "\U0001f600"),
    *("a/1", "b/1", "_folder/1", ".folder/1", "deep/er/and/deeper", "x" * 240, "UPPER", "upper", "1" * 60),
]
SKIPPED = ["anim.gif", "photo.webp", "no_extension", "notes.txt", ".png.swp", "_SUCCESS", "shot.png.json"]
CLASSES = make_class_map(LabelsSection(classes=tuple(f"class {number}" for number in range(40))))
Put = Callable[[str, bytes], None]


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Put]:
    """Give the URI of an empty place and a way to put objects there that takes every name."""
    if request.param == "local":

        def write(key: str, data: bytes) -> None:
            (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / key).write_bytes(data)

        return str(tmp_path), write
    bucket: str = request.getfixturevalue("s3_bucket")
    client = s3.s3fs_client()

    def put(key: str, data: bytes) -> None:
        client.call_s3("put_object", Bucket=bucket.removeprefix("s3://"), Key=key, Body=data)

    return bucket, put


def test_every_name_makes_the_round_trip_to_the_byte(place: tuple[str, Put]) -> None:
    root, put = place
    image = encode(gradient(6, 8), "PNG")
    for number, stem in enumerate(STEMS):
        put(f"images/{stem}.{'png' if number % 2 else 'JPG'}", image)
        put(f"masks/{stem}.png", encode(np.full((6, 8), number, np.uint8), "PNG"))
    for name in SKIPPED:
        put(f"images/{name}", image)
    listed, summary = list_folder(f"{root}/images", f"{root}/masks", split="train")
    assert (summary["skipped_objects"], summary["unpaired_masks"]) == (len(SKIPPED), 0)
    assert {name.rpartition("/")[2] for name in summary["skipped_examples"]} <= set(SKIPPED)
    terms = Terms(
        kind="dataset", settings={}, facts=asdict(CLASSES), summed=DATASET_SUMMED, shard_rows=64, unit_rows=64
    )
    plan = create_plan(f"{root}/dataset", listed, terms, notes=summary)
    planned = [row for unit in plan.units([0]) for row in plan.read(unit)]
    rows = check_pairs(planned, classes=CLASSES, policy=ImagesSection(), resize=None).to_pylist()
    found = {row["image_id"].rpartition(".")[0]: row["class_pixels"] for row in rows}
    assert len(rows) == len(STEMS)
    assert found == {stem: [48 * (number == other) for other in range(40)] for number, stem in enumerate(STEMS)}


@pytest.mark.parametrize("name", ["new\nline.png", "plain.png"])
def test_a_changed_object_is_noticed_whatever_its_name(place: tuple[str, Put], name: str) -> None:
    root, put = place
    put(f"images/{name}", b"first")
    [row] = list_folder(f"{root}/images", None)[0]
    assert storage.read_bytes(row["image_uri"], etag=row["image_etag"]) == b"first"
    put(f"images/{name}", b"the second")
    with pytest.raises(ImageError, match="changed_image: could not read"):
        fetch_pair(row, CLASSES, ImagesSection())
