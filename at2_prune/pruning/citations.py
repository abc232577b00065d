"""Citations: the statements of an answer, and each statement's score for every source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..passages import Passage
from .selection import top_k

__all__ = ["AblationFit", "Citations", "Statement", "fit_to_ablations", "shares_of"]

MIN_SHARE = 0.2
"""The minimum share of a cited source. For a statement's best source, a positive score is enough."""
MOST = 3
"""The maximum number of sources that a statement cites."""


@dataclass(frozen=True)
class AblationFit:
    """The fit of a statement's scores to the outcomes of ablations."""

    effects: list[float]
    """For each source, the log-odds that the statement is expected to lose without the source, in nats."""
    correlation: float
    """Pearson's correlation over the ablations between the statement's measured log-odds and the summed scores of the
    kept sources. If the correlation is near 0, the effects are not reliable."""
    ablations: int


@dataclass(frozen=True)
class Statement:
    """A part of an answer, with a score for every source."""

    text: str
    start: int
    """The position of the statement's first character in the answer."""
    stop: int
    """The position after the statement's last character."""
    scores: list[float]
    """One score per source. Only scores of the same statement can be compared."""
    fit: AblationFit | None = None
    """The effects of the sources, if ablations were run; see `Attributor.attribute`."""

    @property
    def shares(self) -> list[float]:
        """The share of each source; see `shares_of`."""
        return shares_of(self.scores)

    def cited(self, min_share: float = MIN_SHARE, most: int = MOST) -> list[int]:
        """Return the indices of the sources that the statement cites, with the best source first.

        The best source is cited if its score is positive. Any other source is cited if its share is at least
        `min_share`.

        Args:
            min_share: the minimum share of a cited source. It does not apply to the best source.
            most: the maximum number of sources.
        """
        shares = self.shares
        ranked = top_k(self.scores, most, "score")
        return [source for rank, source in enumerate(ranked) if shares[source] >= (min_share if rank else 1e-9)]


@dataclass(frozen=True)
class Citations:
    """The statements of an answer, the sources, and the method that scored them."""

    question: str
    passages: list[Passage]
    answer: str
    sources: list[str]
    """The text of each source: a passage, a sentence of a passage, or a sentence of the model's thoughts."""
    source_passage: list[int]
    """The index of each source's passage."""
    statements: list[Statement]
    method: str
    kind: str = "passage"
    """The kind of source: `passage`, `sentence` or `thought`."""

    @property
    def numbers(self) -> dict[int, int]:
        """The number of each cited source, by the index of the source.

        The source that the answer cites first has the number 1.
        """
        order = dict.fromkeys(source for statement in self.statements for source in statement.cited())
        return {source: number for number, source in enumerate(order, start=1)}

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON values that `at2-prune cite --json` prints."""
        numbers = self.numbers
        return {
            "question": self.question,
            "answer": self.answer,
            "method": self.method,
            "statements": [_as_json(statement, numbers) for statement in self.statements],
            "sources": [
                {"source": i, "passage": owner, "title": self.passages[owner].title, "text": text, "number": number}
                for i, (owner, text) in enumerate(zip(self.source_passage, self.sources, strict=True))
                for number in (numbers.get(i),)
            ],
        }


def shares_of(scores: Sequence[float]) -> list[float]:
    """Return the share of each score: the score divided by the sum of all positive scores, or 0 for a negative score.

    Example:
        >>> shares_of([0.5, -1.0, 1.5])
        [0.25, 0.0, 0.75]
    """
    total = sum(score for score in scores if score > 0)
    return [max(0.0, score) / total if total > 0 else 0.0 for score in scores]


def fit_to_ablations(
    scores: Sequence[float], masks: Sequence[Sequence[bool]], log_odds: Sequence[float]
) -> AblationFit:
    """Fit a statement's scores to measured log-odds by least squares.

    The fit has an intercept, and one scale for all scores. The scale is at least 0.

    Args:
        scores: one score per source.
        masks: for each ablation, one flag per source, which is True if the ablation keeps the source.
        log_odds: the statement's log-odds under each ablation.
    """
    kept = [sum(score for score, keep in zip(scores, mask, strict=True) if keep) for mask in masks]
    count = len(kept)
    mean, level = sum(kept) / count, sum(log_odds) / count
    together = sum((x - mean) * (y - level) for x, y in zip(kept, log_odds, strict=True))
    spread = sum((x - mean) ** 2 for x in kept)
    outcomes = sum((y - level) ** 2 for y in log_odds)
    scale = max(0.0, together / spread) if spread > 0 else 0.0
    correlation = together / (spread * outcomes) ** 0.5 if spread > 0 and outcomes > 0 else 0.0
    return AblationFit([scale * score for score in scores], correlation, count)


def _as_json(statement: Statement, numbers: dict[int, int]) -> dict[str, Any]:
    shares, known = statement.shares, statement.fit
    cited = [
        {
            "source": source,
            "number": numbers[source],
            "share": shares[source],
            **({} if known is None else {"effect": known.effects[source]}),
        }
        for source in statement.cited()
    ]
    row = {"text": statement.text, "start": statement.start, "stop": statement.stop, "citations": cited}
    row["scores"] = statement.scores
    return row if known is None else {**row, "correlation": known.correlation, "ablations": known.ablations}
