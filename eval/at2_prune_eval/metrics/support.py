"""Compare the kept passages with the supporting (gold) passages.

The scores are the supporting-fact scores of the official script (`update_sp` in `hotpot_evaluate_v1.py`), computed for
passages instead of sentences. If k passages are kept, `gold_recall` is often called `R@k`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from at2_prune.errors import InputError

__all__ = ["SupportScores", "both_gold", "gold_precision", "gold_recall", "support_scores"]


@dataclass(frozen=True)
class SupportScores:
    """Measures of how well the kept passages match the gold passages. Each value is between 0 and 1."""

    gold_recall: float
    """The share of the gold passages that were kept."""
    gold_precision: float
    """The share of the kept passages that are gold; 0 if no passage was kept."""
    gold_f1: float
    """The harmonic mean of `gold_recall` and `gold_precision`."""
    both_gold: float
    """1 if every gold passage was kept, else 0. A question of HotpotQA has two gold passages."""


def support_scores(kept: Collection[int], gold: Collection[int]) -> SupportScores:
    """Score the kept passages against the gold passages.

    Args:
        kept: the indices of the kept passages, in any order. A repeated index counts once.
        gold: the indices of the gold passages, at least one.

    Raises:
        InputError: there are no gold passages.

    Example:
        >>> support_scores([2, 5, 7, 9], [5, 8])
        SupportScores(gold_recall=0.5, gold_precision=0.25, gold_f1=0.3333333333333333, both_gold=0.0)
    """
    if not gold:
        raise InputError("there are no gold passages to compare the kept passages with")
    kept, gold = set(kept), set(gold)
    found = len(kept & gold)
    recall, precision = found / len(gold), found / max(1, len(kept))
    f1 = 2 * precision * recall / (precision + recall) if found else 0.0
    return SupportScores(recall, precision, f1, float(gold <= kept))


def gold_recall(kept: Collection[int], gold: Collection[int]) -> float:
    """Return the share of the gold passages that were kept. For arguments and errors, see `support_scores`.

    Example:
        >>> gold_recall([2, 5, 7], [5, 8])
        0.5
    """
    return support_scores(kept, gold).gold_recall


def gold_precision(kept: Collection[int], gold: Collection[int]) -> float:
    """Return the share of the kept passages that are gold, or 0 if no passage was kept.

    For arguments and errors, see `support_scores`.

    Example:
        >>> gold_precision([2, 5, 7, 9], [5, 8])
        0.25
    """
    return support_scores(kept, gold).gold_precision


def both_gold(kept: Collection[int], gold: Collection[int]) -> bool:
    """Return whether every gold passage was kept. For arguments and errors, see `support_scores`.

    Example:
        >>> both_gold([2, 5, 8], [5, 8]), both_gold([2, 5], [5, 8])
        (True, False)
    """
    return support_scores(kept, gold).both_gold == 1
