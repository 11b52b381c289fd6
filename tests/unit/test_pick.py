import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.unit.inline_table import BAD_ROWS, NUM_ROWS, begin, finish, planned_rows, predict
from unet_ray.datasets.inputs import add_list
from unet_ray.datasets.listing import Listing
from unet_ray.errors import ConfigError, TableError
from unet_ray.pick import Pick, choose, run
from unet_ray.schema import PREDICTION
from unet_ray.table.commit import QuarantineLimits, fill
from unet_ray.table.parts import Part, write_part
from unet_ray.table.plan import Plan, Unit


def make(number: int, score: float, group: str = "", frame: int | None = None) -> Pick:
    return Pick(
        image_id=f"{number}.png", image_uri=f"s3://frames/{number}.png", group=group, frame=frame,
        score=score, uncertainty=score, rarity=1.0,
    )  # fmt: skip


def slowly(candidates: list[Pick], count: int, gap: int) -> list[Pick]:
    """Choose as `choose` does, looking at every candidate each time."""
    picked: list[Pick] = []
    while len(picked) < count:
        left = [
            one
            for one in candidates
            if one not in picked
            and not any(
                other.group == one.group
                and one.frame is not None
                and other.frame is not None
                and abs(one.frame - other.frame) <= gap
                for other in picked
            )
        ]
        if not left:
            break
        picked.append(max(left, key=lambda one: one.score / (1 + sum(other.group == one.group for other in picked))))
    return picked


@pytest.mark.parametrize("seed", range(20))
def test_the_queue_chooses_what_a_search_of_all_would(seed: int) -> None:
    rng = random.Random(seed)
    candidates = [
        make(number, rng.random(), f"seq{rng.randrange(4)}", rng.choice([None, rng.randrange(60)]))
        for number in range(60)
    ]
    for count, gap in ((1, 0), (10, 3), (100, 0), (100, 8)):
        assert choose(candidates, count, gap) == slowly(candidates, count, gap)


def test_a_sequence_does_not_take_all_places_and_neighbours_are_left_out() -> None:
    candidates = [make(n, 1.0 - n / 100, "one", 100 * n) for n in range(5)] + [
        make(9, 0.6, "two", 0),
        make(8, 2.0, "one", 3),
    ]
    assert [pick.image_id for pick in choose(candidates, 4, gap=10)] == ["8.png", "9.png", "1.png", "2.png"]


def rarities() -> dict[str, float]:
    """Return the rarity of each ok row of the inline table, by its URI, pixel by pixel."""
    rows = [predict({"row_id": number, **row}) for number, row in enumerate(planned_rows())]
    masks = {row["image_uri"]: np.frombuffer(row["pred_mask"], np.uint8) for row in rows if "pred_mask" in row}
    seen = np.concatenate(list(masks.values()))
    return {uri: float(np.mean([-math.log((seen == k).mean()) for k in mask])) for uri, mask in masks.items()}


def test_the_list_names_the_best_rows_first_and_is_an_input_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uri, output = str(tmp_path / "table"), str(tmp_path / "next.csv")
    finish(begin(uri))
    found = run(uri, output, count=5, gap=0)
    expected = rarities()
    assert (found.picked, found.frames, found.groups) == (5, NUM_ROWS - len(BAD_ROWS), 3)
    with Listing() as listing:
        add_list(listing, output)
        listed = [row["image_uri"] for row in listing.rows()]
    assert len(set(listed)) == 5
    assert listed[0] == max(expected, key=lambda one: expected[one])
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].split() == ["label", "first", "score", "uncertainty", "rarity"]
    for line, image in zip(lines[1:6], listed, strict=True):
        name, *numbers = line.split()
        assert image == f"s3://frames/{name}"
        uncertainty, rarity = 10 / 255, expected[image]  # as inline tables have it
        assert numbers == [f"{value:.3f}" for value in (uncertainty * rarity, uncertainty, rarity)]
    assert lines[-1] == f"5 frames of 3 groups: {output}"


def test_neighbours_that_score_high_do_not_hide_what_lies_further(tmp_path: Path) -> None:
    def finished(row: dict[str, Any]) -> dict[str, Any]:
        return predict(row | {"row_id": 0}) | {"row_id": row["row_id"], "entropy_sum": 100 - row["row_id"]}

    def produce(plan: Plan, units: Sequence[Unit]) -> Iterator[Part]:
        for unit in units:
            rows = [finished(row) for row in plan.read(unit)]
            yield write_part(plan, [unit], pa.Table.from_pylist(rows, schema=PREDICTION))

    uri, output = str(tmp_path / "table"), tmp_path / "next.csv"
    planned = [row | {"group": "one", "frame": number} for number, row in enumerate(planned_rows(30))]
    plan = begin(uri, planned)
    fill(plan, lambda units: produce(plan, units), limits=QuarantineLimits(fraction=0.0))
    run(uri, str(output), count=3, gap=5)
    assert [line.split(",")[-1] for line in output.read_text().splitlines()[1:]] == ["0", "6", "12"]


@pytest.mark.parametrize(("count", "gap", "message"), [(0, 1, "--count: must be >= 1"), (1, -1, "--gap: must be >= 0")])
def test_numbers_out_of_range_are_refused(tmp_path: Path, count: int, gap: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(str(tmp_path), str(tmp_path / "next.csv"), count, gap)


def test_only_predictions_are_picked_from(dataset_uri: str, tmp_path: Path) -> None:
    with pytest.raises(TableError, match="a table of dataset; pick takes a table of predictions"):
        run(dataset_uri, str(tmp_path / "next.csv"), 1, 0)
