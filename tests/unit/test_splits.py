import logging
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_ray.config import Config
from unet_ray.config_input import DataSection
from unet_ray.datasets.layouts import list_inputs
from unet_ray.datasets.listing import Listing
from unet_ray.datasets.splits import cut_line, split_settings
from unet_ray.errors import ConfigError, DatasetError, PlanMismatchError
from unet_ray.storage import ObjectInfo
from unet_ray.table.plan import Terms, begun_plan, create_plan


def listed(image_ids: Iterable[str], how: str, *, seed: int = 0, **keys: Any) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the split of each image of a list, in its order, and what is told of the splits."""
    data = DataSection(split=how, **{"val_fraction": 0.0, **keys})  # type: ignore[arg-type]
    with Listing() as listing:
        rows = (
            {
                "image_id": name,
                "image_uri": name,
                "mask_uri": None,
                "frame": None,
                "split": "",
                "group": name.split("/")[0],
            }
            for name in image_ids
        )
        listing.add_list(rows, "list.csv")
        if data.group_pattern:
            listing.assign_groups(data.group_pattern)
        listing.assign_splits(data, seed)
        return {row["image_id"]: row["split"] for row in listing.rows()}, listing.splits


def split(image_ids: Iterable[str], how: str, **keys: Any) -> dict[str, str]:
    return listed(image_ids, how, **keys)[0]


IMAGES = [f"images/{number}.png" for number in range(50)]


def test_a_hash_split_is_the_same_in_every_release() -> None:
    found = split(IMAGES[:10], "hash", val_fraction=0.3, test_fraction=0.2)
    assert list(found.values()) == [
        "test", "val", "train", "test", "train", "test", "train", "val", "train", "val",
    ]  # fmt: skip


def test_a_group_split_is_the_same_in_every_release() -> None:
    found = split([f"{number}/a.png" for number in range(10)], "group", val_fraction=0.3, test_fraction=0.2)
    assert list(found.values()) == [
        "test", "train", "train", "train", "test", "train", "val", "val", "train", "val",
    ]  # fmt: skip


def test_a_ratio_split_is_the_same_in_every_release() -> None:
    found = split(IMAGES[:10], "ratio", val_fraction=0.3, test_fraction=0.2)
    assert list(found.values()) == [
        "val", "test", "train", "train", "train", "val", "train", "val", "train", "test",
    ]  # fmt: skip


def test_a_hash_split_takes_about_its_shares() -> None:
    names = (f"images/{number}.png" for number in range(4000))
    found = Counter(split(names, "hash", seed=1, val_fraction=0.2, test_fraction=0.1).values())
    assert found["val"] == pytest.approx(800, abs=80)
    assert found["test"] == pytest.approx(400, abs=60)


def test_an_image_keeps_its_hash_split_when_others_come_and_go() -> None:
    shares = {"seed": 3, "val_fraction": 0.25, "test_fraction": 0.25}
    assert split(IMAGES[::5], "hash", **shares).items() <= split(IMAGES[::-1], "hash", **shares).items()


@pytest.mark.parametrize("how", ["hash", "ratio", "group"])
def test_another_seed_splits_otherwise(how: str) -> None:
    names = [f"{number}/a.png" for number in range(50)]
    assert split(names, how, val_fraction=0.5) != split(names, how, seed=1, val_fraction=0.5)


@pytest.mark.parametrize("how", ["hash", "ratio", "group", "contiguous"])
def test_without_fractions_everything_trains(how: str) -> None:
    assert set(split([f"{number}/a.png" for number in range(20)], how).values()) == {"train"}


def test_shares_of_a_ratio_split_are_exact() -> None:
    names = [f"{number}.jpg" for number in range(3475)]
    found, told = listed(names, "ratio", val_fraction=0.16, test_fraction=0.2)
    assert Counter(found.values()) == {"train": 2224, "val": 556, "test": 695}
    assert told["rows"] == {"train": 2224, "val": 556, "test": 695}
    assert "val" in list(found.values())[:50]


def test_a_contiguous_split_validates_the_last_slices_of_a_volume() -> None:
    with Listing() as listing:
        slices = (ObjectInfo(key=f"{n}.png", uri=f"s3://b/{n}.png", size_bytes=1, etag="") for n in reversed(range(30)))
        listing.add_folder(slices, ())
        listing.assign_splits(DataSection(split="contiguous", val_fraction=0.2), 0)
        found = {row["frame"]: row["split"] for row in listing.rows()}
    assert [number for number, name in found.items() if name == "val"] == [24, 25, 26, 27, 28, 29]
    assert Counter(found.values()) == {"train": 24, "val": 6}


def test_a_contiguous_split_tests_what_comes_last() -> None:
    found = list(split(IMAGES, "contiguous", val_fraction=0.2, test_fraction=0.1).values())
    assert found == ["train"] * 35 + ["val"] * 10 + ["test"] * 5


def test_a_group_is_never_in_two_splits() -> None:
    names = [f"{group}/{frame}.png" for frame in range(5) for group in range(10)]
    found, told = listed(names, "group", val_fraction=0.2, test_fraction=0.1)
    by_group = [{found[f"{group}/{frame}.png"] for frame in range(5)} for group in range(10)]
    assert sorted(name for (name,) in by_group) == ["test"] + ["train"] * 7 + ["val"] * 2
    assert told["groups"] == {"train": 7, "val": 2, "test": 1}
    assert told["shared_groups"] == 0


def test_groups_that_are_torn_apart_are_counted() -> None:
    names = [f"{group}/{frame}.png" for group in range(3) for frame in range(10)]
    _, told = listed(names, "contiguous", val_fraction=0.5)
    assert told == {
        "settings": split_settings(DataSection(split="contiguous", val_fraction=0.5), 0),
        "rows": {"train": 15, "val": 15, "test": 0},
        "groups": {"train": 2, "val": 2, "test": 0},
        "shared_groups": 1,
    }


def test_a_pattern_keeps_cities_together_that_folders_do_not() -> None:
    names = [f"{part}/{city}_{frame}.png" for city in "abcdefgh" for part in "xyz" for frame in range(4)]
    found, told = listed(names, "group", val_fraction=0.25, test_fraction=0.25, group_pattern="/([a-h])_")
    splits = {city: {name for image_id, name in found.items() if f"/{city}_" in image_id} for city in "abcdefgh"}
    assert all(len(names) == 1 for names in splits.values())
    assert (told["groups"], told["shared_groups"]) == ({"train": 4, "val": 2, "test": 2}, 0)


@given(st.lists(st.integers(1, 9), min_size=4, max_size=25), st.integers(0, 99), st.floats(0, 0.3), st.floats(0, 0.3))
@settings(max_examples=60, deadline=None)
def test_no_group_of_any_size_is_in_two_splits(sizes: list[int], seed: int, val: float, test: float) -> None:
    names = [f"{group}/{number}.png" for group, size in enumerate(sizes) for number in range(size)]
    found = split(names, "group", seed=seed, val_fraction=val, test_fraction=test)
    assert len({(name.split("/")[0], of) for name, of in found.items()}) == len(sizes)


def test_a_share_of_less_than_a_group_is_a_whole_one() -> None:
    found = split([f"{group}/1.png" for group in range(3)], "group", val_fraction=0.01, test_fraction=0.01)
    assert sorted(found.values()) == ["test", "train", "val"]


def test_groups_are_held_out_by_name() -> None:
    names = [f"{group}/{frame}.png" for group in ("day", "dusk", "night", "fog") for frame in range(3)]
    found, told = listed(names, "group", val_groups=("night",), test_groups=("fog",), val_fraction=0.9)
    assert {name.split("/")[0]: split for name, split in found.items()} == {
        "day": "train", "dusk": "train", "night": "val", "fog": "test",
    }  # fmt: skip
    assert told["rows"] == {"train": 6, "val": 3, "test": 3}
    assert listed(names, "group", seed=9, val_groups=("night",), test_groups=("fog", "fog"))[1] == told


def test_a_group_that_is_not_there_cannot_be_held_out() -> None:
    with pytest.raises(
        DatasetError,
        match=r"data\.test_groups: no image is of group 'c', found a, b; correct it, or data\.group_pattern",
    ):
        split(["a/1.png", "b/1.png"], "group", val_groups=("a",), test_groups=("c",))


def test_groups_that_leave_none_to_train_are_refused(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("image,group\n1.png,a\n2.png,b\n")
    data = DataSection(layout="list", root=f"{tmp_path}/pairs.csv", split="group", val_groups=("a", "b"))
    with pytest.raises(DatasetError, match=r"train split, of 2 found; name fewer in data\.val_groups"):
        list_inputs(Config(data=data)).__enter__()


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"split": "hash"}, r"data\.split: must be group with data\.val_groups, got 'hash'"),
        ({"folds": 3}, r"data\.folds: must be null with data\.val_groups, got 3"),
        (
            {"test_fraction": 0.1},
            r"data\.test_fraction: must be 0 with data\.val_groups, use data\.test_groups, got 0.1",
        ),
        ({"test_groups": ("a",)}, r"data\.test_groups: must be none of data\.val_groups, got \['a'\]"),
    ],
)
def test_named_groups_go_with_no_other_rule(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        DataSection(**{"split": "group", "val_groups": ("a",), **keys})


def test_too_few_groups_are_refused() -> None:
    with pytest.raises(
        DatasetError,
        match=r"data\.split: group needs more groups than the 2 for val and test, found 2 \(a, b\); use",
    ):
        split(["a/1.png", "a/2.png", "b/1.png"], "group", val_fraction=0.2, test_fraction=0.2)


@given(st.integers(2, 12), st.integers(12, 400), st.sampled_from(["ratio", "group", "contiguous"]), st.floats(0, 0.5))
def test_every_unit_validates_in_one_fold_and_folds_differ_by_one_at_most(
    folds: int, total: int, how: str, test: float
) -> None:
    cuts = [
        cut_line(total, DataSection(split=how, test_fraction=test, folds=folds, fold=fold))  # type: ignore[arg-type]
        for fold in range(folds)
    ]
    rest = cuts[0][2]
    assert [rank for begin, end, _ in cuts for rank in range(begin, end)] == list(range(rest))
    assert {at for _, _, at in cuts} == {rest}
    sizes = [end - begin for begin, end, _ in cuts]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("how", ["ratio", "group", "contiguous"])
def test_folds_share_their_test_images_and_validate_every_other_once(how: str) -> None:
    names = [f"{group}/{frame}.png" for group in range(23) for frame in range(3)]
    found = [split(names, how, test_fraction=0.2, val_fraction=0.7, folds=5, fold=fold) for fold in range(5)]
    tested = [{name for name, of in fold.items() if of == "test"} for fold in found]
    assert tested[0]
    assert all(names == tested[0] for names in tested)
    validated = Counter(name for fold in found for name, of in fold.items() if of == "val")
    assert validated == Counter(set(names) - tested[0])
    assert split(names, how, test_fraction=0.2, folds=5, fold=0) == found[0]  # data.val_fraction is not used


@pytest.mark.parametrize(
    ("how", "units"), [("ratio", "3 images"), ("contiguous", "3 images"), ("group", r"2 groups \(a, b\)")]
)
def test_more_folds_than_there_are_units_are_refused(how: str, units: str) -> None:
    with pytest.raises(DatasetError, match=rf"data\.folds: 4 folds of {units} would leave some empty; lower it"):
        split(["a/1.png", "a/2.png", "b/1.png"], how, folds=4)


@pytest.mark.parametrize("how", ["ratio", "contiguous"])
@given(st.integers(1, 120), st.floats(0, 0.5), st.floats(0, 0.49))
def test_shares_are_the_rounded_ones(how: str, total: int, val: float, test: float) -> None:
    data = DataSection(split=how, val_fraction=val, test_fraction=test)  # type: ignore[arg-type]
    begin, end, at = cut_line(total, data)
    assert (end - begin, end, total - at) == (round(val * total), at, round(test * total))
    assert begin >= 0


def test_a_split_that_stays_empty_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "pairs.csv").write_text("image\na/1.png\na/2.png\n")
    data = DataSection(layout="list", root=f"{tmp_path}/pairs.csv", split="ratio", val_fraction=0.2)
    with caplog.at_level(logging.INFO), list_inputs(Config(data=data)):
        pass
    assert caplog.messages == [
        "split by ratio: train 2 images of 1 group(s), val 0 images of 0 group(s), test 0 images of 0 group(s); "
        "0 group(s) in more than one",
        "data.val_fraction: 0.2 of 2 images is none, the val split is empty",
    ]


@pytest.mark.parametrize("how", ["lists", "hash", "ratio", "group", "contiguous"])
def test_a_pattern_is_applied_by_every_kind_of_split(tmp_path: Path, how: str) -> None:
    names = [f"{patient}-{number}.png" for patient in ("p1", "p2", "p3", "p4") for number in range(5)]
    (tmp_path / "pairs.csv").write_text("image,split\n" + "".join(f"{name},train\n" for name in names))
    data = DataSection(layout="list", root=f"{tmp_path}/pairs.csv", split=how, group_pattern="^(.*)-")  # type: ignore[arg-type]
    with list_inputs(Config(data=data)) as listing:
        assert [row["group"] for row in listing.rows()] == [name.split("-")[0] for name in names]


def test_settings_that_do_not_matter_are_left_out() -> None:
    lists = DataSection(split="lists", val_fraction=0.3)
    assert split_settings(lists, 0) == split_settings(DataSection(split="lists"), 1)
    folds = DataSection(split="contiguous", folds=3, val_fraction=0.3)
    assert split_settings(folds, 0) == split_settings(DataSection(split="contiguous", folds=3), 1)


@pytest.mark.parametrize(
    ("changes", "seed", "message"),
    [
        ({"split": "contiguous"}, 0, r'data\.split: .* was begun with "ratio", this job has "contiguous"; choose'),
        ({"split": "lists"}, 0, r'data\.split: .* was begun with "ratio", this job has "lists"; choose'),
        ({"val_fraction": 0.3}, 0, r"data\.val_fraction: .* was begun with 0\.2, this job has 0\.3; choose"),
        ({"test_fraction": 0.1}, 0, r"data\.test_fraction: .* was begun with 0\.0, this job has 0\.1; choose"),
        ({"folds": 5}, 0, r"data\.folds: .* was begun with null, this job has 5; choose"),
        ({"group_pattern": "(a)"}, 0, r'data\.group_pattern: .* was begun with null, this job has "\(a\)"; choose'),
        ({}, 1, r"run\.seed: .* was begun with 0, this job has 1; choose"),
    ],
)
def test_another_split_at_the_same_place_is_refused_by_its_key(
    tmp_path: Path, changes: dict[str, Any], seed: int, message: str
) -> None:
    def terms(data: DataSection, seed: int) -> Terms:
        found = split_settings(data, seed)
        return Terms(kind="dataset", settings=found, facts={}, summed=(), shard_rows=8, unit_rows=8)

    row = {"image_id": "a", "group": "", "split": "train"}
    create_plan(f"{tmp_path}/dataset", [row], terms(DataSection(split="ratio"), 0), notes={})
    changed = DataSection(**{"split": "ratio", **changes})
    with pytest.raises(PlanMismatchError, match=rf"^{message}"):
        begun_plan(f"{tmp_path}/dataset", terms(changed, seed))
