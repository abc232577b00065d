"""Answer and supporting-passage scores: cases worked by hand from the official script, and a second computation."""

from __future__ import annotations

import random
from collections.abc import Callable
from fractions import Fraction

import pytest

from at2_prune.errors import InputError
from at2_prune_eval.metrics import (
    SupportScores,
    answer_scores,
    both_gold,
    gold_precision,
    gold_recall,
    normalize_answer,
    support_scores,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Meuse.", "meuse"),
        ("A cat and an apple", "cat and apple"),
        ("theatre", "theatre"),  # articles are words, not letters
        ("U.S.A.", "usa"),
        ("the-end", "theend"),  # punctuation goes before articles, so "the" is no word here
        ("the–end", "–end"),  # the en dash is not ASCII punctuation, and "the" is a word beside it
        ("1,969–1,970", "1969–1970"),
        ("\tNew\nYork\u00a0", "new york"),
        ("São Paulo", "são paulo"),  # accents stay
        ("Straße", "straße"),  # lower case, not case folding
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
        ("in Belgium, the Meuse", "the Meuse (in France)", 0, 2 / 3, 2 / 3, 2 / 3),
        ("new york new york", "New York", 0, 2 / 3, 1 / 2, 1),  # a token counts as often as both have it
        ("ha ha ha", "Ha! Ha!", 0, 4 / 5, 2 / 3, 1),
        ("Sao Paulo", "São Paulo", 0, 1 / 2, 1 / 2, 1 / 2),  # accents are letters of their own
        ("19691970", "1,969-1,970", 1, 1, 1, 1),  # without its hyphen it is one token
        ("Berlin", "Meuse", 0, 0, 0, 0),
        ("", "Meuse", 0, 0, 0, 0),
        ("Meuse", "", 0, 0, 0, 0),
        ("Yes.", "yes", 1, 1, 1, 1),
        ("yes it is", "yes", 0, 0, 0, 0),  # the truth is yes and they differ
        ("no", "no way", 0, 0, 0, 0),  # the prediction is no and they differ
        ("no way", "no way out", 0, 4 / 5, 1, 2 / 3),  # neither side is no
        ("noanswer", "Meuse noanswer", 0, 0, 0, 0),
        ("The no", "no", 1, 1, 1, 1),  # the rule looks at what normalisation leaves
        ("The", "...", 1, 0, 0, 0),  # nothing is left of either: the official script gives EM 1 and F1 0
        ("", "", 1, 0, 0, 0),
    ],
)
def test_answer_scores(prediction: str, truth: str, em: float, f1: float, precision: float, recall: float) -> None:
    scores = answer_scores(prediction, truth)
    assert (scores.em, scores.f1, scores.precision, scores.recall) == pytest.approx((em, f1, precision, recall))
    assert answer_scores(prediction, [truth]) == scores


@pytest.mark.parametrize(
    ("prediction", "truths", "em", "f1", "precision", "recall"),
    [
        ("River Meuse", ["Meuse", "the river Meuse"], 1, 1, 1, 1),
        ("Maas", ["Meuse", "the river Meuse"], 0, 0, 0, 0),
        ("a big river", ["river", "very big river delta"], 0, 2 / 3, 1, 1),  # each score is its own maximum
        ("yes", ["yes it is", "Yes"], 1, 1, 1, 1),
        ("no doubt", ["no", "doubt"], 0, 2 / 3, 1 / 2, 1),  # the rule holds for one truth and not for the other
    ],
)
def test_best_of_several_truths(
    prediction: str, truths: list[str], em: float, f1: float, precision: float, recall: float
) -> None:
    for given in (truths, truths[::-1], tuple(truths), iter(truths)):
        scores = answer_scores(prediction, given)
        assert (scores.em, scores.f1, scores.precision, scores.recall) == pytest.approx((em, f1, precision, recall))


def test_no_truth() -> None:
    with pytest.raises(InputError, match="no true answer"):
        answer_scores("Meuse", [])


def by_definition(prediction: str, truth: str) -> tuple[Fraction, ...]:
    """The official rule a second way: character by character, tokens crossed off a list, exact fractions."""
    sides = []
    for text in (prediction, truth):
        words, word = "", ""
        for character in [c for c in text.lower() if c not in r"""!"#$%&'()*+,-./:;<=>?@[\]^_`{|}~"""] + [" "]:
            if character.isalnum():
                word += character
            else:
                words += (" " if word in ("a", "an", "the") else word) + character
                word = ""
        sides.append(words.split())
    em, (left, right) = Fraction(sides[0] == sides[1]), sides
    if em == 0 and any(side in (["yes"], ["no"], ["noanswer"]) for side in sides):
        return em, Fraction(0), Fraction(0), Fraction(0)
    rest, same = list(right), 0
    for token in left:
        if token in rest:
            rest.remove(token)
            same += 1
    if same == 0:
        return em, Fraction(0), Fraction(0), Fraction(0)
    return em, Fraction(2 * same, len(left) + len(right)), Fraction(same, len(left)), Fraction(same, len(right))


def test_answer_scores_of_random_texts() -> None:
    pieces = ["yes", "No", "noanswer", "the", "A", "an", "river", "River", "Théâtre", "a\u0301", "x-y", "ß", "ÇA", "7"]
    glue = [" ", "  ", "", ".", ", ", "–", "_", "\u00a0", "\n", "'", " the "]
    generator = random.Random(0)

    def text() -> str:
        return "".join(generator.choice(pieces) + generator.choice(glue) for _ in range(generator.randint(0, 4)))

    seen = set()
    for _ in range(5_000):
        prediction, truth = text(), text()
        scores = answer_scores(prediction, truth)
        expected = tuple(map(float, by_definition(prediction, truth)))
        assert (scores.em, scores.f1, scores.precision, scores.recall) == pytest.approx(expected), (prediction, truth)
        seen.add(expected)
    assert len(seen) > 20  # and not all of them zero


@pytest.mark.parametrize(
    ("kept", "gold", "recall", "precision", "f1", "both"),
    [
        ([0, 1], [0, 1], 1, 1, 1, True),
        ([4, 1, 0], [0, 4], 1, 2 / 3, 4 / 5, True),
        ([4], [0, 4], 1 / 2, 1, 2 / 3, False),
        ([2, 3], [0, 4], 0, 0, 0, False),
        ([], [0, 4], 0, 0, 0, False),
        ([0, 1, 2], [0, 1, 5], 2 / 3, 2 / 3, 2 / 3, False),  # three gold passages
        (list(range(10)), [3, 8], 1, 1 / 5, 1 / 3, True),
        ([4, 4, 7], [4, 0], 1 / 2, 1 / 2, 1 / 2, False),  # a passage that repeats counts once
    ],
)
def test_gold(kept: list[int], gold: list[int], recall: float, precision: float, f1: float, both: bool) -> None:
    scores = support_scores(kept, gold)
    assert (scores.gold_recall, scores.gold_precision, scores.gold_f1) == pytest.approx((recall, precision, f1))
    assert scores == SupportScores(gold_recall(kept, gold), gold_precision(kept, gold), scores.gold_f1, float(both))
    assert both_gold(kept, gold) is both


@pytest.mark.parametrize("function", [gold_recall, gold_precision, both_gold, support_scores])
def test_no_gold(function: Callable[[list[int], list[int]], object]) -> None:
    with pytest.raises(InputError, match="no gold passages"):
        function([1], [])
