from unet_ray.report.run import choose_panels


def rows_of(*right: int | None) -> list[dict[str, object]]:
    """Frames of ten labelled pixels in two classes, of which so many are right; None is a frame without truth."""
    return [{"row_id": row_id, "confusion": None if n is None else [n, 10 - n, 0, 0]} for row_id, n in enumerate(right)]


def test_best_and_worst_are_ranked_and_the_random_ones_are_none_of_them() -> None:
    chosen = choose_panels(rows_of(9, 1, 5, 10, 3, 6, 7, 2), each=2, background=None, seed=0)
    kinds = [(kind, row_id) for kind, row_id, _ in chosen]
    assert kinds[:4] == [("best", 3), ("best", 0), ("worst", 1), ("worst", 7)]
    assert {kind for kind, _ in kinds[4:]} == {"random"}
    assert len({row_id for _, row_id in kinds}) == len(kinds) == 6


def test_a_choice_is_the_same_under_the_same_seed() -> None:
    rows = rows_of(*range(11))
    assert choose_panels(rows, 2, None, 7) == choose_panels(rows, 2, None, 7)


def test_few_frames_are_never_shown_twice() -> None:
    for number in range(1, 7):
        chosen = choose_panels(rows_of(*range(number)), each=4, background=None, seed=0)
        assert sorted(row_id for _, row_id, _ in chosen) == list(range(number))


def test_frames_without_truth_are_shown_at_random_without_a_score() -> None:
    chosen = choose_panels(rows_of(None, None, None), each=2, background=None, seed=0)
    assert [(kind, value) for kind, _, value in chosen] == [("random", None), ("random", None)]


def test_no_frames_give_no_panels() -> None:
    assert choose_panels([], each=4, background=None, seed=0) == []
