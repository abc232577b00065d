"""How many passages to keep: as many as make the model most confident of its answer.

A question is answered from its best k1, k2, ... passages, and the answer with the highest probability under its own
context wins: :math:`k^* = \\arg\\max_k \\log p(a_k \\mid q, S_k)` with :math:`a_k` the greedy answer from the top k
sources :math:`S_k`. The contexts are short and begin alike, so that together they cost about one pass over everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..models.drafts import Draft
from ..models.kv_cache import Prefix
from ..models.shared_prefix import write_answers

if TYPE_CHECKING:
    from ..passages import Passage
    from .pruner import AT2Pruner

__all__ = ["Candidate", "most_confident", "write_candidates"]


@dataclass(frozen=True)
class Candidate:
    """An answer from the k best sources."""

    k: int
    kept: list[int]
    """Indices of sources, in the order they were shown."""
    answer: str
    log_probability: float
    """Of the answer and its end, given these sources; minus infinity if the model wrote nothing."""


def write_candidates(
    pruner: AT2Pruner,
    question: str,
    passages: Sequence[Passage],
    scores: Sequence[float],
    ks: Sequence[int],
    draft: Draft | None = None,
    prefix: Prefix | None = None,
) -> list[Candidate]:
    """An answer from the top k sources, for each k.

    Args:
        pruner: writes them.
        question: the question.
        passages: all of them.
        scores: one a source.
        ks: how many sources to keep, ascending; of several that keep all the first counts.
        draft: what the pruner's own model wrote from all sources, which is then the answer from all.
        prefix: what stands before the sources, if that has been run.

    Returns:
        By k, ascending; where not even the smallest fits the context, `ContextTooLongError` is raised.
    """
    everything = [k for k in ks if k >= len(scores)]
    kept = {k: pruner.select(scores, k) for k in ks if k not in everything[1:]}
    shown = {k: pruner.shown(passages, indices) for k, indices in kept.items()}
    fitting = [k for k in kept if pruner.fits(question, shown[k])] or list(kept)[:1]
    known: dict[int, tuple[str, float]] = {}
    if draft is not None and draft.text:
        known = {k: (draft.text, draft.log_probability) for k in kept if kept[k] == list(range(len(scores)))}
    asked = [k for k in fitting if k not in known]
    if asked:
        prompts = [pruner.language_model.encode(question, shown[k]) for k in asked]
        if len(asked) == 1:
            written, _ = pruner.language_model.generate(prompts, pruner.max_new_tokens, prefix=prefix)
        else:
            guess = () if draft is None else draft.ids
            written = write_answers(pruner.language_model, prompts, guess, pruner.max_new_tokens, prefix)
        known |= {k: (new.text, new.log_probability) for k, new in zip(asked, written, strict=True)}
    return [Candidate(k, kept[k], *known[k]) for k in kept if k in known]


def most_confident(candidates: Sequence[Candidate]) -> Candidate:
    """The one whose answer is likeliest; of equals the one with the fewest sources.

    Example:
        >>> most_confident([Candidate(1, [3], "Ghent", -2.5), Candidate(2, [1, 3], "Dinant", -0.5)]).answer
        'Dinant'
    """
    return max(candidates, key=lambda candidate: (candidate.log_probability, -candidate.k))
