from typing import Any

from unet_ray.report.panels import choose_frames


def rows_of(*right: int | None) -> list[dict[str, Any]]:
    """Frames of ten labelled pixels in two classes, of which so many are right; None is a frame without truth.

    The later a frame, the more uncertain it is.
    """
    return [
        {
            "row_id": row_id,
            "confusion": None if n is None else [n, 10 - n, 0, 0],
            "class_pixels": [10, 10],
            "entropy_sum": 20 * row_id,
        }
        for row_id, n in enumerate(right)
    ]


def test_best_and_worst_are_ranked_the_most_uncertain_follow_and_no_frame_comes_twice() -> None:
    chosen = choose_frames(rows_of(9, 1, 5, 10, 3, 6, 7, 2, 4, 8), each=2, background=None, seed=0)
    kinds = [(kind, row_id) for kind, row_id, _ in chosen]
    assert kinds[:6] == [
        ("best", 3), ("best", 0), ("worst", 1), ("worst", 7), ("uncertain", 9), ("uncertain", 8),
    ]  # fmt: skip
    assert {kind for kind, _ in kinds[6:]} == {"random"}
    assert len({row_id for _, row_id in kinds}) == len(kinds) == 8


def test_uncertainty_is_the_mean_of_a_pixel_not_the_sum_of_a_frame() -> None:
    rows = rows_of(None, None)
    rows[0] |= {"class_pixels": [1, 0], "entropy_sum": 5}
    assert [row_id for _, row_id, _ in choose_frames(rows, each=1, background=None, seed=0)] == [0, 1]


def test_a_choice_is_the_same_under_the_same_seed() -> None:
    rows = rows_of(*range(11))
    assert choose_frames(rows, 2, None, 7) == choose_frames(rows, 2, None, 7)


def test_few_frames_are_never_shown_twice() -> None:
    for number in range(1, 9):
        chosen = choose_frames(rows_of(*range(number)), each=4, background=None, seed=0)
        assert sorted(row_id for _, row_id, _ in chosen) == list(range(number))


def test_frames_without_truth_are_chosen_by_uncertainty_and_at_random_without_a_score() -> None:
    chosen = choose_frames(rows_of(None, None, None, None), each=2, background=None, seed=0)
    assert [(kind, value) for kind, _, value in chosen] == [("uncertain", None)] * 2 + [("random", None)] * 2


def test_no_frames_give_no_panels() -> None:
    assert choose_frames([], each=4, background=None, seed=0) == []
