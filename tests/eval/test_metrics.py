"""Answer scores and recall of gold passages, each case worked by hand from the official HotpotQA script."""

from __future__ import annotations

import pytest

from at2_prune.errors import InputError
from at2_prune_eval.metrics import answer_scores, both_gold, gold_precision, gold_recall, normalize_answer


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Meuse.", "meuse"),
        ("A cat and an apple", "cat and apple"),
        ("theatre", "theatre"),  # articles are words, not letters
        ("U.S.A.", "usa"),
        ("the-end", "theend"),  # punctuation goes before articles, so "the" is no word here
        ("1,969–1,970", "1969–1970"),  # the en dash is not ASCII punctuation
        ("\tNew\nYork ", "new york"),
        ("...", ""),
        ("The", ""),
    ],
)
def test_normalize(text: str, expected: str) -> None:
    assert normalize_answer(text) == expected


@pytest.mark.parametrize(
    ("prediction", "truth", "em", "f1", "precision", "recall"),
    [
        ("Meuse", "the Meuse", 1, 1, 1, 1),
        ("river Meuse", "Meuse", 0, 2 / 3, 1 / 2, 1),
        ("Meuse", "river Meuse in Belgium", 0, 2 / 5, 1, 1 / 4),
        ("new york new york", "New York", 0, 2 / 3, 1 / 2, 1),  # a token counts as often as both have it
        ("Berlin", "Meuse", 0, 0, 0, 0),
        ("", "Meuse", 0, 0, 0, 0),
        ("Yes.", "yes", 1, 1, 1, 1),
        ("yes it is", "yes", 0, 0, 0, 0),  # the truth is yes and they differ
        ("no", "no way", 0, 0, 0, 0),  # the prediction is no and they differ
        ("no way", "no way out", 0, 4 / 5, 1, 2 / 3),  # neither side is no
        ("noanswer", "Meuse noanswer", 0, 0, 0, 0),
        ("The", "...", 1, 0, 0, 0),  # nothing is left of either: the official script gives EM 1 and F1 0
    ],
)
def test_answer_scores(prediction: str, truth: str, em: float, f1: float, precision: float, recall: float) -> None:
    scores = answer_scores(prediction, truth)
    assert (scores.em, scores.f1, scores.precision, scores.recall) == pytest.approx((em, f1, precision, recall))


@pytest.mark.parametrize(
    ("kept", "gold", "recall", "precision", "both"),
    [
        ([0, 1], [0, 1], 1, 1, True),
        ([4, 1, 0], [0, 4], 1, 2 / 3, True),
        ([4], [0, 4], 1 / 2, 1, False),
        ([2, 3], [0, 4], 0, 0, False),
        ([], [0, 4], 0, 0, False),
        ([0, 1, 2], [0, 1, 5], 2 / 3, 2 / 3, False),  # three gold passages
    ],
)
def test_gold(kept: list[int], gold: list[int], recall: float, precision: float, both: bool) -> None:
    assert gold_recall(kept, gold) == pytest.approx(recall)
    assert gold_precision(kept, gold) == pytest.approx(precision)
    assert both_gold(kept, gold) is both


@pytest.mark.parametrize("function", [gold_recall, gold_precision, both_gold])
def test_no_gold(function: object) -> None:
    with pytest.raises(InputError, match="no gold passages"):
        function([1], [])  # type: ignore[operator]
