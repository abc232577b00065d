"""The result for one question: its sources with their scores, and the answers before and after pruning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..models.prompts import EncodedPrompt
from ..passages import Passage
from .auto_k import Candidate, most_confident
from .certainty import CONFIDENT
from .loop import Scored
from .selection import blank_last, top_k

__all__ = ["PruneResult", "ScoredSource", "probabilities_by_passage", "prune_result", "scored_sources"]


@dataclass(frozen=True)
class ScoredSource:
    """A passage or a sentence of a passage, with its score."""

    text: str
    score: float
    rank: int
    """The rank by score. The source with the highest score has rank 1."""
    passage: int
    """The index of the source's passage."""
    kept: bool
    probability: float | None = None
    """The probability that the source is evidence. It is None if the method's coefficients are not calibrated."""


@dataclass(frozen=True)
class PruneResult:
    """The result for one question.

    Example:
        >>> seconds = {"draft": 0.0, "score": 0.5, "answer": 1.0}
        >>> passages = [Passage("Dinant lies on the Meuse."), Passage("Ghent is a city.")]
        >>> result = PruneResult("Which river?", passages, None, "the Meuse", 1, [0], [0.9, 0.1], [], seconds)
        >>> result.to_dict()["answer"], [result.passages[index].text for index in result.kept]
        ('the Meuse', ['Dinant lies on the Meuse.'])
    """

    question: str
    passages: list[Passage]
    draft: str | None
    """The draft that the reader wrote or the user gave. It is None if the method needs no draft and none was given."""
    answer: str
    """The answer from the kept sources."""
    k: int
    kept: list[int]
    """The indices of the kept passages, in the order in which the model saw the passages."""
    scores: list[float]
    """One score per passage, in input order. If the sources are sentences, the scores of a passage's
    sentences are summed."""
    sources: list[ScoredSource]
    """All sources, in input order."""
    seconds: dict[str, float]
    """The time of each of the steps `draft`, `score` and `answer`, in seconds. The attention of the draft's rows is
    read in the step `draft`. If a separate reader writes the draft, or passages are scored in windows, the scoring
    model reads the draft in the step `score`. A method that needs no draft, such as scout, reads attention in the step
    `score`."""
    fallback: str | None = None
    """The reason why the first k sources were kept without scores. It is None if the sources were scored."""
    candidates: list[Candidate] = field(default_factory=list)
    """The candidate for each k that was tried. `answer` is the answer of the most confident candidate."""
    probabilities: list[float] | None = None
    """For each passage, the probability that the passage is evidence. It is None if the method's coefficients are not
    calibrated."""
    present: float | None = None
    """The probability that at least one passage is evidence. It is None if the coefficients are not calibrated, or if
    there are too few passages (see `Calibration.fewest`)."""

    @property
    def confident(self) -> bool | None:
        """Return whether `present` is at least 0.5. Return None if `present` is None."""
        return None if self.present is None else self.present >= CONFIDENT

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON values that `at2-prune answer --json` prints."""
        names = ("question", "draft", "answer", "k", "kept", "scores", "seconds")
        result = {name: getattr(self, name) for name in names}
        result["seconds"] = {**self.seconds, "regenerate": self.seconds["answer"]}  # the old name is kept until 0.3
        if self.probabilities is not None:
            result |= {"probabilities": self.probabilities, "present": self.present, "confident": self.confident}
        if len(self.candidates) > 1:
            result["candidates"] = [asdict(candidate) for candidate in self.candidates]
        return result if self.fallback is None else {**result, "fallback": self.fallback}


def prune_result(
    question: str,
    passages: list[Passage],
    scored: Scored,
    candidates: list[Candidate],
    seconds: float,
    uses_draft: bool,
) -> PruneResult:
    """Return the result for a question, with the answer of the most confident candidate.

    Args:
        question: the question.
        passages: all passages.
        scored: the scores of the passages' sources.
        candidates: the candidate for each k that was tried, at least one.
        seconds: the time of the step `answer`.
        uses_draft: whether the method reads a draft.
    """
    best = most_confident(candidates)
    sources = scored_sources(scored.prompt, scored.scores, best.kept, scored.probabilities)
    by_passage = [0.0] * len(passages)
    for source in sources:
        by_passage[source.passage] += source.score
    fallback = None
    if scored.error is not None:
        tried = f"{candidates[0].k} " if len(candidates) == 1 else ""
        fallback = f"{scored.error}; the first {tried}sources were kept"
    return PruneResult(
        question,
        passages,
        scored.draft.text if uses_draft else scored.draft.text or None,
        best.answer,
        best.k,
        list(dict.fromkeys(scored.prompt.source_passage[i] for i in best.kept)),
        blank_last(by_passage, [passage.text for passage in passages]),
        sources,
        {**scored.seconds, "answer": seconds},
        fallback,
        candidates,
        None if scored.probabilities is None else probabilities_by_passage(sources, len(passages)),
        scored.present,
    )


def scored_sources(
    prompt: EncodedPrompt,
    scores: Sequence[float],
    kept: Sequence[int],
    probabilities: Sequence[float] | None = None,
) -> list[ScoredSource]:
    """Return the sources of a prompt with their scores, ranks and probabilities.

    Args:
        prompt: the prompt.
        scores: one score per source.
        kept: the indices of the kept sources.
        probabilities: one probability per source, or None.
    """
    known: Sequence[float | None] = [None] * len(scores) if probabilities is None else probabilities
    ranks = {source: rank for rank, source in enumerate(top_k(scores, len(scores) or 1, "score"), start=1)}
    return [
        ScoredSource(text, scores[i], ranks[i], owner, i in set(kept), known[i])
        for i, (text, owner) in enumerate(zip(prompt.source_texts, prompt.source_passage, strict=True))
    ]


def probabilities_by_passage(sources: Sequence[ScoredSource], count: int) -> list[float]:
    """Return the probability of each passage.

    If the sources are sentences, the probability of a sentence is a share of its passage's probability. The shares of a
    passage's sentences are summed.
    """
    found = [0.0] * count
    for source in sources:
        found[source.passage] += source.probability or 0.0
    return found
