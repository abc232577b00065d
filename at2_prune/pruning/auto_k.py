"""Choose k, the number of sources to keep. The chosen k gives the most confident answer.

The reader answers a question several times, from the best :math:`k_1, k_2, \\dots` sources. Let :math:`S_k` be the
top k sources, and :math:`a_k` the greedy answer from these sources. The chosen number is
:math:`k^* = \\arg\\max_k \\log p(a_k, \\text{end} \\mid q, S_k)`, where "end" is the token that ends the answer. The
probability of each answer is computed from its own sources only. The contexts are short and share a prefix. All of them
together cost about one pass over all sources.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Candidate", "most_confident"]


@dataclass(frozen=True)
class Candidate:
    """A possible result: the answer from the k best sources."""

    k: int
    kept: list[int]
    """The indices of the kept sources, in the order in which the reader saw the sources."""
    answer: str
    log_probability: float
    """The log-probability of the answer and its end token, given the kept sources. It is minus infinity if the answer
    is empty."""


def most_confident(candidates: Sequence[Candidate]) -> Candidate:
    """Return the candidate with the most confident answer. If several are equally confident, the smallest k wins.

    Example:
        >>> most_confident([Candidate(1, [3], "Ghent", -2.5), Candidate(2, [1, 3], "Dinant", -0.5)]).answer
        'Dinant'
    """
    return max(candidates, key=lambda candidate: (candidate.log_probability, -candidate.k))
