import numpy as np

from unet_ray.report.panels import Chosen, choose_frames

NAN = float("nan")


def choose(*mious: float, each: int, seed: int = 0) -> list[Chosen]:
    """Choose among frames of which each is more uncertain than those before it; NaN is a frame without truth."""
    row_ids = np.arange(len(mious))
    return choose_frames(row_ids, np.array(mious), row_ids / 10, each, seed)


def test_best_and_worst_are_ranked_the_most_uncertain_follow_and_no_frame_comes_twice() -> None:
    chosen = choose(0.9, 0.1, 0.5, 1.0, 0.3, 0.6, 0.7, 0.2, 0.4, 0.8, each=2)
    kinds = [(kind, row_id) for kind, row_id, _ in chosen]
    assert kinds[:6] == [
        ("best", 3), ("best", 0), ("worst", 1), ("worst", 7), ("uncertain", 9), ("uncertain", 8),
    ]  # fmt: skip
    assert {kind for kind, _ in kinds[6:]} == {"random"}
    assert len({row_id for _, row_id in kinds}) == len(kinds) == 8
    assert [miou for _, _, miou in chosen[:4]] == [1.0, 0.9, 0.1, 0.2]


def test_frames_are_named_by_their_rows() -> None:
    row_ids = np.array([4, 7, 9])
    chosen = choose_frames(row_ids, np.array([0.5, NAN, 0.7]), np.array([0.0, 0.0, 0.0]), each=1, seed=0)
    assert chosen == [("best", 9, 0.7), ("worst", 4, 0.5), ("uncertain", 7, None)]


def test_a_choice_is_the_same_under_the_same_seed() -> None:
    mious = np.linspace(0, 1, 11).tolist()
    assert choose(*mious, each=2, seed=7) == choose(*mious, each=2, seed=7)


def test_few_frames_are_never_shown_twice() -> None:
    for number in range(1, 9):
        chosen = choose(*np.linspace(0, 1, number).tolist(), each=4)
        assert sorted(row_id for _, row_id, _ in chosen) == list(range(number))


def test_frames_without_truth_are_chosen_by_uncertainty_and_at_random_without_a_score() -> None:
    chosen = choose(NAN, NAN, NAN, NAN, each=2)
    assert [(kind, value) for kind, _, value in chosen] == [("uncertain", None)] * 2 + [("random", None)] * 2


def test_no_frames_give_no_panels() -> None:
    assert choose(each=4) == []
