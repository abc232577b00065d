"""The choice of k, the number of sources to keep: the k that gives the most confident answer.

A question is answered from its best :math:`k_1, k_2, \\dots` sources, and the answer with the highest probability under
its own context wins: :math:`k^* = \\arg\\max_k \\log p(a_k \\mid q, S_k)`, where :math:`a_k` is the greedy answer from
the top k sources :math:`S_k`. The contexts are short and share a prefix, so that together they cost about one pass over
all sources.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Candidate", "most_confident"]


@dataclass(frozen=True)
class Candidate:
    """An answer from the k best sources."""

    k: int
    kept: list[int]
    """Indices of sources, in the order in which they were shown."""
    answer: str
    log_probability: float
    """The log-probability of the answer and its end token, given these sources; minus infinity if the answer is
    empty."""


def most_confident(candidates: Sequence[Candidate]) -> Candidate:
    """Return the candidate with the most confident answer. If several are equally confident, the smallest k wins.

    Example:
        >>> most_confident([Candidate(1, [3], "Ghent", -2.5), Candidate(2, [1, 3], "Dinant", -0.5)]).answer
        'Dinant'
    """
    return max(candidates, key=lambda candidate: (candidate.log_probability, -candidate.k))
