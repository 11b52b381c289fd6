"""Every kind of bad input becomes a row with a reason, and the job goes on."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.corpus import CLASSES, Case, draw, make_cases, pass_time, write_cases
from tests.unit.image_files import encode
from unet_ray import prepare
from unet_ray.config import Config
from unet_ray.datasets import layouts
from unet_ray.datasets.listing import Listing
from unet_ray.errors import PlanMismatchError, QuarantineLimitError
from unet_ray.predict import run as predict
from unet_ray.table.read import open_table
from unet_ray.train import run as train

pytestmark = pytest.mark.usefixtures("ray_cluster")

ALL = make_cases()
BAD = {name: case for name, case in ALL.items() if case.code is not None}
FOLDER = {
    "data__layout": "folder",
    "data__split": "hash",
    "data__shard_rows": "64",
    "labels__classes": f"[{', '.join(CLASSES)}]",
    "train__epochs": "1",
}


def codes(cases: Mapping[str, Case]) -> dict[str, str | None]:
    return {f"images/{name}": case.code for name, case in cases.items()}


def good_pairs(number: int) -> dict[str, Case]:
    frames = ((frame, *draw(frame % 7)) for frame in range(number))
    return {
        f"good_{frame}.png": Case(image=encode(image, "PNG"), mask=encode(mask, "PNG")) for frame, image, mask in frames
    }


def found_codes(uri: str) -> dict[str, str | None]:
    rows = open_table(uri).read(["row_id", "image_id", "status", "error_code", "error_message"]).to_pylist()
    assert [row["row_id"] for row in rows] == list(range(len(rows)))
    assert all((row["status"] == "ok") == (row["error_code"] is None) for row in rows)
    assert all((row["error_code"] is None) == (row["error_message"] is None) for row in rows)
    return {row["image_id"]: row["error_code"] for row in rows}


@pytest.fixture
def time_passes(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, Mapping[str, Case]], None]:
    """Let what happens to the files of cases happen right after `prepare` listed them."""

    def arrange(root: Path, cases: Mapping[str, Case]) -> None:
        listed = layouts.list_inputs

        @contextmanager
        def list_inputs(config: Config) -> Iterator[Listing]:
            with listed(config) as listing:
                pass_time(root, cases)
                yield listing

        monkeypatch.setattr(layouts, "list_inputs", list_inputs)

    return arrange


def test_bad_pairs_become_rows_with_a_reason_and_the_rest_is_prepared_and_trained_on(
    make_config: Callable[..., Config],
    tmp_path: Path,
    time_passes: Callable[[Path, Mapping[str, Case]], None],
) -> None:
    root, cases = tmp_path / "input", ALL | good_pairs(20)
    write_cases(root, cases)
    (root / "images/README.txt").write_text("not an image")
    time_passes(root, cases)
    config = make_config(**FOLDER, data__root=str(root), data__max_quarantined_fraction="0.9")
    result = prepare.run(config)
    assert (result.images, result.ok, result.quarantined) == (len(cases), len(cases) - len(BAD), len(BAD))
    assert result.errors == Counter(case.code for case in BAD.values())
    assert result.skipped_objects == 1
    assert found_codes(config.dataset_uri) == codes(cases)
    stats = json.loads(Path(f"{config.dataset_uri}/stats.json").read_text())
    assert sum(sum(split["errors"].values()) for split in stats["splits"].values()) == len(BAD)

    train.run(config)
    later = {f"images/{name}": case.code for name, case in cases.items() if case.later is None}
    folder = make_config(
        predict__images=str(root / "images"), predict__masks=str(root / "masks"), data__max_quarantined_fraction="0.9"
    )
    predicted = predict.run(folder)
    found = {f"images/{image_id}": code for image_id, code in found_codes(folder.predictions_uri).items()}
    assert predicted.ok + predicted.quarantined == predicted.frames == len(found)
    later["images/mask_never_there.png"] = None
    there = ("mask_gone.png", "image_changed.png", "mask_changed.png")  # good files, or no truth, when listed again
    assert found == later | {f"images/{name}": None for name in there}
    with pytest.raises(PlanMismatchError, match=r'images\.alpha: .* was begun with "drop", this job has "reject"'):
        predict.run(
            make_config(
                predict__images=str(root / "images"), predict__masks=str(root / "masks"), images__alpha="reject"
            )
        )


@pytest.mark.parametrize(("num_bad", "num_good"), [(1, 19), (20, 20), (len(BAD), 0)], ids=["5 %", "50 %", "100 %"])
def test_nothing_is_lost_at_any_share_of_bad_pairs(
    make_config: Callable[..., Config],
    tmp_path: Path,
    time_passes: Callable[[Path, Mapping[str, Case]], None],
    num_bad: int,
    num_good: int,
) -> None:
    cases = dict(list(BAD.items())[:num_bad]) | good_pairs(num_good)
    write_cases(tmp_path / "input", cases)
    time_passes(tmp_path / "input", cases)
    config = make_config(**FOLDER, data__root=str(tmp_path / "input"), data__max_quarantined_fraction="1.0")
    result = prepare.run(config)
    assert (result.images, result.ok, result.quarantined) == (num_bad + num_good, num_good, num_bad)
    assert found_codes(config.dataset_uri) == codes(cases)


def test_too_many_bad_pairs_stop_the_job_and_repairing_them_needs_another_output(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    root = tmp_path / "input"
    bad = {name: BAD[name] for name in ("cut.jpg", "empty.png", "html.png", "mask_smaller.png", "mask_never_there.png")}
    write_cases(root, bad | good_pairs(12))
    changes = {**FOLDER, "data__root": str(root)}
    with pytest.raises(QuarantineLimitError, match=r"data\.max_quarantined_fraction: [4-5] of 17 rows cannot be used"):
        prepare.run(make_config(**changes))
    raised = prepare.run(make_config(**changes, data__max_quarantined_fraction="0.4"))
    assert raised.quarantined == 5
    for name in bad:
        (root / "images" / name).unlink()
    repaired = prepare.run(make_config(**changes, data__dataset=str(root.parent / "repaired")))
    assert (repaired.images, repaired.quarantined, repaired.unpaired_masks) == (12, 0, 4)
