from __future__ import annotations

import math
import random
from typing import Any

import pytest
import torch

from at2_prune.errors import InputError
from at2_prune.pruning.selection import check_k, first_of_each, neighborhood, token_budget, top_k


def test_top_k_against_repeated_argmax() -> None:
    rng = random.Random(0)
    for _ in range(300):
        scores = [rng.choice([-1.0, 0.0, 0.25, 0.5, 1.0]) for _ in range(rng.randint(1, 9))]  # many ties
        k = rng.randint(1, 10)
        left, best = dict(enumerate(scores)), []
        while left and len(best) < k:
            top = max(left.values())
            first = min(index for index, score in left.items() if score == top)
            best.append(first)
            del left[first]
        assert top_k(scores, k, "score") == best
        assert top_k(scores, k) == top_k(scores, k, "original") == sorted(best)


def test_top_k_of_infinities_and_of_nothing() -> None:
    scores = [-math.inf, 1.0, math.inf, -1.0, math.inf]
    assert top_k(scores, 3, "score") == [2, 4, 1]
    assert top_k(scores, 5, "score") == [2, 4, 1, 3, 0]
    assert top_k([], 3) == []
    assert top_k(torch.tensor([0.1, 0.3, 0.2]), 2) == [1, 2]  # type: ignore[arg-type]


def test_a_score_that_is_no_number_is_refused_by_its_index() -> None:
    with pytest.raises(InputError, match="score 1 is NaN"):
        top_k([0.5, math.nan, 0.1], 2)


@pytest.mark.parametrize("k", [0, -1, 2.0, "3", None, True, False, [1], math.nan])
def test_k_that_is_no_count(k: Any) -> None:
    for check in (check_k, lambda k: top_k([1.0, 2.0], k)):
        with pytest.raises(InputError, match="must be an integer of at least 1, got ") as caught:
            check(k)
        assert repr(k) in str(caught.value)


def test_unknown_order() -> None:
    order: Any = "best"
    with pytest.raises(InputError, match="order must be 'original' or 'score', got 'best'"):
        top_k([1.0], 1, order)


def test_token_budget_keeps_what_fits() -> None:
    assert token_budget([2, 0, 1], [[0], [1], [2]], [5, 3, 4], 8) == [2, 1]
    assert token_budget([2, 0, 1], [[0], [1], [2]], [5, 3, 4], 12) == [2, 0, 1]
    assert token_budget([0, 1], [[0], [1]], [5, 3], 2) == []
    assert token_budget([0, 1], [[0, 1], [0, 1]], [5, 3], 8) == [0, 1]  # what is there already costs nothing


def test_neighborhood_stays_with_the_owner() -> None:
    owners = [0, 0, 0, 1, 1, 0]
    for source in range(6):
        for reach in range(4):
            expected = [i for i in range(6) if abs(i - source) <= reach and owners[i] == owners[source]]
            assert neighborhood(source, owners, reach) == expected


def test_first_of_each() -> None:
    keys = ["a", "b", "a", "c", "b", "a"]
    assert first_of_each(keys) == [keys.index(key) for key in keys]
    assert first_of_each([]) == []
