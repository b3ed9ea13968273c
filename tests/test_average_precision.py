"""Average precision: worked by hand, against scikit-learn and a plain formulation, and rankings that are hardly any."""

import itertools
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, precision_recall_curve

from stages.average_precision import Curve, curve


def plain(scores: list[float], right: list[bool], positives: int) -> tuple[Fraction, Fraction]:
    """Both definitions by the words of the paper, in exact fractions: the eleven points and the area."""
    points = []
    for threshold in set(scores):
        answered = [hit for score, hit in zip(scores, right, strict=True) if score >= threshold]
        points.append((Fraction(sum(answered), positives), Fraction(sum(answered), len(answered))))

    def best(recall: Fraction) -> Fraction:
        return max((precision for reached, precision in points if reached >= recall), default=Fraction(0))

    recalls = sorted({Fraction(0), *(reached for reached, _ in points)})
    area = sum((high - low) * best(high) for low, high in itertools.pairwise(recalls))
    return sum(best(Fraction(tenth, 10)) for tenth in range(11)) / Fraction(11), Fraction(area)


def of(scores: Any, right: Any, positives: int | None = None) -> Curve:
    right = np.array(right, dtype=bool)
    return curve(np.array(scores, dtype=np.float64), right, int(right.sum()) if positives is None else positives)


def test_an_example_worked_by_hand() -> None:
    # Precision 1, 1/2, 2/3, 1/2, 3/5 at recall 1/4, 1/4, 2/4, 2/4, 3/4; the fourth is never found.
    found = of([0.9, 0.8, 0.7, 0.6, 0.5], [1, 0, 1, 0, 1], positives=4)
    # 0, 0.1 and 0.2 at 1; 0.3 to 0.5 at 2/3; 0.6 and 0.7 at 3/5; 0.8 to 1 at 0.
    assert found.eleven_points == pytest.approx((3 * 1 + 3 * 2 / 3 + 2 * 3 / 5) / 11)
    assert found.area == pytest.approx((1 + 2 / 3 + 3 / 5) / 4)


@given(
    answers=st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=1, max_size=40), missed=st.integers(0, 5)
)
def test_any_ranking_is_scored_by_the_definitions(answers: list[tuple[int, bool]], missed: int) -> None:
    scores, right = [score / 4 for score, _ in answers], [hit for _, hit in answers]
    positives = sum(right) + missed
    assume(positives)
    found = of(scores, right, positives)
    assert (found.eleven_points, found.area) == pytest.approx(tuple(map(float, plain(scores, right, positives))))


@pytest.mark.parametrize("seed", range(5))
def test_the_area_is_that_under_scikit_learns_curve_with_the_best_precision_to_come(seed: int) -> None:
    random = np.random.default_rng(seed)
    right = random.random(500) < 0.2
    scores = np.round(random.normal(size=500) + right, 1)
    precision, recall, _ = precision_recall_curve(right, scores)
    best = np.maximum.accumulate(precision)
    assert of(scores, right).area == pytest.approx(-np.sum(np.diff(recall) * best[:-1]))
    assert of(scores, right).area >= average_precision_score(right, scores)


def test_the_area_is_scikit_learns_average_precision_where_precision_only_falls() -> None:
    for right in ([1, 1, 1, 0, 0, 0], [1, 1, 0, 1, 0, 0], [1, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 1]):
        scores = np.arange(6, 0, -1)
        assert of(scores, right).area == pytest.approx(average_precision_score(right, scores))


def test_recalls_of_a_tenth_are_reached_exactly() -> None:
    # Three of ten found at the top: 0.3 is reached, though 3 * 0.1 in floats is more than 0.3.
    assert of(np.arange(3, 0, -1), [1, 1, 1], positives=10).eleven_points == pytest.approx(4 / 11)


def test_a_perfect_ranking_scores_one_and_one_that_finds_nothing_zero() -> None:
    assert (of([3, 2, 1], [1, 1, 0]).eleven_points, of([3, 2, 1], [1, 1, 0]).area) == (1, 1)
    assert (of([3, 2], [0, 0], 5).eleven_points, of([3, 2], [0, 0], 5).area) == (0, 0)


def test_no_answers_score_zero() -> None:
    assert (of([], [], 3).eleven_points, of([], [], 3).area) == (0, 0)


@given(st.permutations([1, 1, 0, 0, 0, 0, 0, 0]))
def test_scores_all_alike_have_the_precision_of_chance_in_any_order(right: list[int]) -> None:
    found = of([0.5] * 8, right)
    assert (found.eleven_points, found.area) == pytest.approx((1 / 4, 1 / 4))


def test_a_negative_infinite_score_comes_last() -> None:
    found = of([-np.inf, 1, -np.inf], [1, 1, 0])
    assert found.area == pytest.approx((1 + 2 / 3) / 2)
