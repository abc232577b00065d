"""Answer EM, F1, precision and recall as the official HotpotQA script computes them; recall of gold passages.

The official script is `hotpot_evaluate_v1.py` of https://github.com/hotpotqa/hotpot. Both its quirks are kept: an
answer that is yes, no or noanswer earns nothing unless it matches whole, and two answers of which nothing is left
after normalisation match exactly but share no token, so EM is 1 and F1 is 0.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from at2_prune.errors import InputError

__all__ = ["AnswerScores", "answer_scores", "both_gold", "gold_precision", "gold_recall", "normalize_answer"]

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_WHOLE = ("yes", "no", "noanswer")


@dataclass(frozen=True)
class AnswerScores:
    """How well an answer matches the true one, each between 0 and 1."""

    em: float
    """Exact match after normalisation."""
    f1: float
    precision: float
    recall: float


def normalize_answer(text: str) -> str:
    """Lower case, without ASCII punctuation and the articles a, an, the; white space made single.

    Example:
        >>> normalize_answer("The  Meuse, (a river)")
        'meuse river'
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def answer_scores(prediction: str, truth: str) -> AnswerScores:
    """Scores of one answer, by the tokens it shares with the true one.

    Example:
        >>> answer_scores("the river Meuse", "Meuse")
        AnswerScores(em=0.0, f1=0.6666666666666666, precision=0.5, recall=1.0)
        >>> answer_scores("no, it is not", "no").f1  # yes and no count only as the whole answer
        0.0
    """
    predicted, true = normalize_answer(prediction), normalize_answer(truth)
    em = float(predicted == true)
    if predicted != true and (predicted in _WHOLE or true in _WHOLE):
        return AnswerScores(em, 0.0, 0.0, 0.0)
    predicted_tokens, true_tokens = predicted.split(), true.split()
    same = sum((Counter(predicted_tokens) & Counter(true_tokens)).values())
    if same == 0:
        return AnswerScores(em, 0.0, 0.0, 0.0)
    precision, recall = same / len(predicted_tokens), same / len(true_tokens)
    return AnswerScores(em, 2 * precision * recall / (precision + recall), precision, recall)


def gold_recall(kept: Collection[int], gold: Collection[int]) -> float:
    """The part of the gold passages that was kept.

    Args:
        kept: indices of the kept passages.
        gold: indices of the gold passages, at least one.

    Raises:
        InputError: there are no gold passages.

    Example:
        >>> gold_recall([2, 5, 7], [5, 8])
        0.5
    """
    return len(set(kept) & _some(gold)) / len(set(gold))


def gold_precision(kept: Collection[int], gold: Collection[int]) -> float:
    """The part of the kept passages that is gold; 0 if none was kept. Arguments and errors as in `gold_recall`.

    Example:
        >>> gold_precision([2, 5, 7, 9], [5, 8])
        0.25
    """
    return len(set(kept) & _some(gold)) / max(1, len(set(kept)))


def both_gold(kept: Collection[int], gold: Collection[int]) -> bool:
    """Whether every gold passage was kept; HotpotQA has two. Arguments and errors as in `gold_recall`.

    Example:
        >>> both_gold([2, 5, 8], [5, 8]), both_gold([2, 5], [5, 8])
        (True, False)
    """
    return _some(gold) <= set(kept)


def _some(gold: Collection[int]) -> set[int]:
    if not gold:
        raise InputError("there are no gold passages to compare the kept ones with")
    return set(gold)
