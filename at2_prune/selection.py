"""Scores -> which passages to keep, and in which order they are shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from .errors import InputError

__all__ = ["Order", "check_k", "top_k"]

Order = Literal["original", "score"]


def top_k(scores: Sequence[float], k: int, order: Order = "original") -> list[int]:
    """Indices of the k highest scores; ties go to the earlier one.

    Args:
        scores: one per passage.
        k: at least 1; more than there are keeps all.
        order: "original" as they were given, "score" best first.

    Raises:
        InputError: k below 1, an unknown order, a score that is not a number.

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
            raise InputError(f"score {index} is not a number")
    best = sorted(range(len(scores)), key=lambda index: (-scores[index], index))[:k]
    return best if order == "score" else sorted(best)


def check_k(k: int) -> None:
    """Raise `InputError` unless k is an integer of at least 1."""
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise InputError(f"k is the number of passages to keep and must be an integer of at least 1, got {k!r}")
