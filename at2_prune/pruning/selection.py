"""Select sources by their scores: which sources are kept, and in which order the kept sources are shown."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Sequence
from typing import Literal

from ..errors import InputError

__all__ = [
    "AUTO",
    "AUTO_KS",
    "K",
    "Ks",
    "Order",
    "as_ks",
    "blank_last",
    "check_k",
    "first_of_each",
    "need_probabilities",
    "neighborhood",
    "no_probabilities",
    "parse_recall",
    "token_budget",
    "top_k",
]

Order = Literal["original", "score"]
K = int | Literal["auto"]
"""The number of sources to keep, or "auto" for the number that gives the most confident answer."""
Ks = K | Sequence[int]
"""`K`, or several numbers to try. The number that gives the most confident answer is used."""
AUTO: Literal["auto"] = "auto"
AUTO_KS = (1, 2, 3, 5)
"""The numbers of sources that "auto" tries; see docs/research.md, entry 7."""
_RECALL = re.compile(r"recall\s*>=\s*([01]?\.\d+)")
"""The form of the setting `keep`."""
_MARGIN = 1e-6
"""The distance between the score of a source without text and the lowest score of the other sources. If the lowest
score has a magnitude above 1, the distance is multiplied by this magnitude. Without this factor, single precision could
round the distance to 0."""


def top_k(scores: Sequence[float], k: int, order: Order = "original") -> list[int]:
    """Return the indices of the k highest scores. If scores are equal, the earlier score ranks higher.

    Args:
        scores: one score per source.
        k: at least 1. If k exceeds the number of scores, all indices are returned.
        order: the order of the indices: "original" is ascending, and "score" is best first.

    Raises:
        InputError: k is below 1, the order is unknown, or a score is NaN.

    Example:
        >>> top_k([0.1, 0.7, 0.2, 0.7], k=3)
        [1, 2, 3]
        >>> top_k([0.1, 0.7, 0.2, 0.7], k=3, order="score")
        [1, 3, 2]
    """
    check_k(k)
    if order not in ("original", "score"):
        raise InputError(f"order must be 'original' or 'score', got {order!r}")
    for index, score in enumerate(scores):
        if math.isnan(score):
            raise InputError(f"score {index} is NaN")
    best = sorted(range(len(scores)), key=lambda index: (-scores[index], index))[:k]
    return best if order == "score" else sorted(best)


def parse_recall(keep: str) -> float:
    """Return the wanted recall in a text such as "recall>=0.9".

    Raises:
        InputError: the text has another form, or the recall is not between 0 and 1.

    Example:
        >>> parse_recall("recall>=0.9")
        0.9
    """
    found = _RECALL.fullmatch(keep) if isinstance(keep, str) else None
    value = float(found[1]) if found else 0.0
    if not 0 < value < 1:
        raise InputError(f"keep must be 'recall>=R' with R between 0 and 1, such as 'recall>=0.9', got {keep!r:.80}")
    return value


def no_probabilities(needed_by: Sequence[str], method: str) -> InputError:
    """Return the error that is raised if settings need probabilities and the method gives none.

    Args:
        needed_by: the names of the settings.
        method: the name of the method.
    """
    return InputError(f"{need_probabilities(needed_by)}, which the method {method} does not give: use scout")


def need_probabilities(needed_by: Sequence[str]) -> str:
    """Return the first words of an error message. They say that these settings need probabilities.

    Example:
        >>> need_probabilities(["min_score"]), need_probabilities(["min_score", "keep"])
        ('min_score needs probabilities', 'min_score and keep need probabilities')
    """
    return f"{' and '.join(needed_by)} {'needs' if len(needed_by) == 1 else 'need'} probabilities"


def blank_last(scores: Sequence[float], texts: Sequence[str]) -> list[float]:
    """Lower the scores of sources without text, so that these sources rank last.

    A source without text gets a score just below the lowest score of the sources with text. A score that is lower
    already is not changed.

    Args:
        scores: one score per source.
        texts: the text of each source. If no source has text, no score is changed.

    Example:
        >>> blank_last([0.25, 0.75, 0.5], ["Dinant", " ", "Ghent"])
        [0.25, 0.249999, 0.5]
    """
    blank = [not text.strip() for text in texts]
    if all(blank) or not any(blank):
        return list(scores)
    lowest = min(score for score, is_blank in zip(scores, blank, strict=True) if not is_blank)
    below = lowest - _MARGIN * max(1.0, abs(lowest))
    return [min(score, below) if is_blank else score for score, is_blank in zip(scores, blank, strict=True)]


def token_budget(
    ranking: Sequence[int], groups: Sequence[Sequence[int]], sizes: Sequence[int], budget: int
) -> list[int]:
    """Return the sources of `ranking` that fit into a token budget, best first.

    A source that exceeds the rest of the budget is left out. A smaller source with a lower rank may still fit.

    Args:
        ranking: the indices of sources, best first.
        groups: for each source, the sources that are kept together with it. They are the source itself and its
            neighbors. The tokens of a source that is in several groups count once.
        sizes: the number of tokens of each source.
        budget: the maximum number of tokens in total.

    Example:
        >>> token_budget([1, 0, 2], groups=[[0], [1], [2]], sizes=[60, 50, 40], budget=100)
        [1, 2]
    """
    chosen: list[int] = []
    paid: set[int] = set()
    for source in ranking:
        new = set(groups[source]) - paid
        cost = sum(sizes[i] for i in new)
        if cost <= budget:
            chosen.append(source)
            paid |= new
            budget -= cost
    return chosen


def neighborhood(source: int, owners: Sequence[int], reach: int) -> list[int]:
    """Return the source and its neighbors. Neighbors have the same owner, and are at most `reach` places away.

    Example:
        >>> neighborhood(2, owners=[0, 0, 0, 1], reach=1)  # sentences 0 to 2 are of passage 0, sentence 3 of passage 1
        [1, 2]
    """
    near = range(max(0, source - reach), min(len(owners), source + reach + 1))
    return [i for i in near if owners[i] == owners[source]]


def first_of_each(keys: Sequence[Hashable]) -> list[int]:
    """Return, for each key, the index at which the key occurs first.

    Example:
        >>> first_of_each(["a", "b", "a"])
        [0, 1, 0]
    """
    first: dict[Hashable, int] = {}
    return [first.setdefault(key, index) for index, key in enumerate(keys)]


def as_ks(k: Ks) -> tuple[int, ...]:
    """Return the numbers of sources to try, in ascending order.

    Raises:
        InputError: no number is given, or a number is not an integer of at least 1.

    Example:
        >>> as_ks(3), as_ks("auto"), as_ks([5, 2])
        ((3,), (1, 2, 3, 5), (2, 5))
    """
    if k == AUTO:
        return AUTO_KS
    several: Sequence[int] = (k,) if isinstance(k, str) or not isinstance(k, Sequence) else k  # type: ignore[assignment]
    for one in several:
        check_k(one)
    if not several:
        raise InputError("k is empty: give at least one number of sources to keep")
    return tuple(sorted(set(several)))


def check_k(k: int) -> None:
    """Raise `InputError` unless k is an integer of at least 1."""
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise InputError(f"k is the number of sources to keep and must be an integer of at least 1, got {k!r:.80}")
