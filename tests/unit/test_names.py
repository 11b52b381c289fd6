import random
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from unet_ray.datasets.names import is_image, natural_key, parse_frame


def test_names_are_ordered_as_a_person_would() -> None:
    ordered = ["f1.png", "f2.png", "f010.png", "f10.png", "f10b2.png", "f10b10.png", "g1.png"]
    shuffled = random.Random(0).sample(ordered, len(ordered))
    assert sorted(shuffled, key=natural_key) == ordered


def test_the_order_is_the_same_whatever_order_the_names_come_in() -> None:
    names = ["1.png", "01.png", "001.png", "x\u0663.png", "x3.png", "x.png", "", "7", "seven"]
    orders = {tuple(sorted(random.Random(seed).sample(names, len(names)), key=natural_key)) for seed in range(20)}
    assert len(orders) == 1


def plain_key(key: str) -> tuple[object, ...]:
    """Return the order as one would write it down, which no database can sort by."""
    parts = [(0, int(part)) if re.fullmatch("[0-9]+", part) else (1, part) for part in re.split(r"(\d+)", key)]
    return (*parts, (2, key))


NAMES = st.text(st.one_of(st.sampled_from("ab/._-00112239\0\x01\u0663\u00ff\uffff"), st.characters(codec="utf-8")))


@given(NAMES, NAMES, NAMES)
@example("", "a", "b")
@example("a", "0", "\0")
def test_keys_are_ordered_as_their_numbers_and_texts_are(start: str, one: str, other: str) -> None:
    one, other = start + one, start + other
    assert (natural_key(one) < natural_key(other)) == (plain_key(one) < plain_key(other))


@pytest.mark.parametrize("key", ["a.png", "A.PNG", "a/b.jpeg", "a.b.tif", "x.JPG", "y.tiff"])
def test_images_are_known_by_their_ending(key: str) -> None:
    assert is_image(key)


@pytest.mark.parametrize("key", ["a.txt", "png", ".png", "a.png.txt", "a.png/readme", "Thumbs.db", "a.gif"])
def test_other_objects_are_not_taken_for_images(key: str) -> None:
    assert not is_image(key)


@pytest.mark.parametrize(
    ("key", "group", "frame"),
    [
        ("a/b/00012.jpg", "a/b", 12),
        ("a/clip_00012.jpg", "a", 12),
        ("0001TP_006690.png", "0001TP", 6690),
        ("Seq05VD_f00030.png", "Seq05VD", 30),
        ("frame00012.png", "frame", 12),
        ("clip-7.png", "clip", 7),
        ("clip 1.5.png", "clip 1", 5),
        ("00012.png", "", 12),
        ("portrait.png", "", None),
        ("a/portrait.png", "a", None),
        ("0001TP_006690_L.png", "", None),
    ],
)
def test_a_name_tells_its_sequence_and_frame(key: str, group: str, frame: int | None) -> None:
    assert parse_frame(key) == (group, frame)


def test_a_number_too_long_for_a_frame_is_none() -> None:
    assert parse_frame(f"{'9' * 18}.png") == ("", 10**18 - 1)
    assert parse_frame(f"{'9' * 19}.png") == ("", None)
    assert parse_frame(f"a/{'9' * 5000}.png") == ("a", None)
