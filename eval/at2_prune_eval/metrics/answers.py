"""Compute EM, F1, precision and recall of answers as the official HotpotQA script does.

The official script is `hotpot_evaluate_v1.py` of https://github.com/hotpotqa/hotpot. This module keeps two special
cases of the script. If one of the two answers is yes, no or noanswer, all scores are 0 unless the answers are equal. If
both answers are empty after normalisation, they match exactly but share no token, so EM is 1 and F1 is 0.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from at2_prune.errors import InputError

__all__ = ["AnswerScores", "answer_scores", "normalize_answer"]

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_WHOLE = ("yes", "no", "noanswer")


@dataclass(frozen=True)
class AnswerScores:
    """Measures of how well an answer matches the true answer. Each value is between 0 and 1."""

    em: float
    """Exact match: 1 if the answers are equal after normalisation, else 0."""
    f1: float
    precision: float
    recall: float


def normalize_answer(text: str) -> str:
    """Normalise a text: lower case, no ASCII punctuation, no articles (a, an, the), and single spaces.

    Example:
        >>> normalize_answer("The  Meuse, (a river)")
        'meuse river'
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def answer_scores(prediction: str, truths: str | Iterable[str]) -> AnswerScores:
    """Score an answer by the tokens that it shares with the true answer.

    Args:
        prediction: the answer to score.
        truths: the true answer, or several answers that are equally right. With several answers, each score is the
            maximum over these answers, as in the official scripts of MuSiQue and 2WikiMultihopQA.

    Raises:
        InputError: there is no true answer.

    Example:
        >>> answer_scores("the river Meuse", "Meuse")
        AnswerScores(em=0.0, f1=0.6666666666666666, precision=0.5, recall=1.0)
        >>> answer_scores("no, it is not", "no").f1  # yes and no count only as the whole answer
        0.0
        >>> answer_scores("the river Meuse", ["Meuse", "River Meuse"]).em
        1.0
    """
    each = [_scores(prediction, truth) for truth in ([truths] if isinstance(truths, str) else truths)]
    if not each:
        raise InputError("there is no true answer to compare with")
    em, f1, precision, recall = map(max, zip(*each, strict=True))
    return AnswerScores(em, f1, precision, recall)


def _scores(prediction: str, truth: str) -> tuple[float, float, float, float]:
    """Return EM, F1, precision and recall."""
    predicted, true = normalize_answer(prediction), normalize_answer(truth)
    em = float(predicted == true)
    if predicted != true and (predicted in _WHOLE or true in _WHOLE):
        return em, 0.0, 0.0, 0.0
    predicted_tokens, true_tokens = predicted.split(), true.split()
    same = sum((Counter(predicted_tokens) & Counter(true_tokens)).values())
    if same == 0:
        return em, 0.0, 0.0, 0.0
    precision, recall = same / len(predicted_tokens), same / len(true_tokens)
    return em, 2 * precision * recall / (precision + recall), precision, recall
