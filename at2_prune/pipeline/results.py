"""The result of the prune step: the passages to hand on, and the dropped passages with the reasons."""

from __future__ import annotations

from dataclasses import dataclass

from ..passages import Passage

__all__ = ["DroppedPassage", "KeptPassage", "Pruned"]


@dataclass(frozen=True)
class KeptPassage:
    """A passage to hand on."""

    index: int
    """The passage's index in the list that was given to the step."""
    text: str
    """The text that is kept: the whole text, or the kept sentences."""
    score: float | None = None
    """The score of the passage, or the sum of the scores of its sentences. The score is None if the passage was not
    scored. A blank passage is not scored. A single passage is scored only if a setting needs probabilities."""
    probability: float | None = None
    """The probability that the passage is evidence. The probability is None if the passage was not scored, or if the
    method has no calibrated coefficients."""

    @property
    def relevance(self) -> float | None:
        """The probability if there is one, else the score."""
        return self.score if self.probability is None else self.probability


@dataclass(frozen=True)
class DroppedPassage:
    """A passage to leave out."""

    index: int
    reason: str
    score: float | None = None
    probability: float | None = None


@dataclass(frozen=True)
class Pruned:
    """The result of pruning one question's passages."""

    question: str
    passages: tuple[Passage, ...]
    kept: tuple[KeptPassage, ...]
    """The passages to hand on, in the order in which they are shown."""
    dropped: tuple[DroppedPassage, ...] = ()
    draft: str | None = None
    """The draft that was given or written. It is None if there is no draft, or if no passage was scored. It is empty if
    the sources could not be scored because the draft was empty."""
    fallback: str | None = None
    """The reason why the sources could not be scored, or None if they were scored or needed no scores. If there is a
    reason, the first passages are kept."""
    present: float | None = None
    """The probability that at least one passage is evidence. It is None if no passage was scored, if the method has no
    calibrated coefficients, or if there are too few passages (see `Calibration.fewest`)."""

    @property
    def scores(self) -> list[float | None]:
        """One score for each passage, in input order. The score of a passage that was not scored is None."""
        scores = {item.index: item.score for item in self.kept} | {item.index: item.score for item in self.dropped}
        return [scores.get(index) for index in range(len(self.passages))]

    @property
    def probabilities(self) -> list[float | None]:
        """One probability for each passage, in input order. A passage without a probability has None."""
        known = {item.index: item.probability for item in self.kept}
        known |= {item.index: item.probability for item in self.dropped}
        return [known.get(index) for index in range(len(self.passages))]

    @property
    def unchanged(self) -> bool:
        """Return whether every passage is kept with its whole text, in the order of the input."""
        return [(item.index, item.text) for item in self.kept] == [
            (index, passage.text) for index, passage in enumerate(self.passages)
        ]

    def explain(self) -> str:
        """Return a summary line, then one line for each passage.

        The line of a passage says whether the passage is kept or dropped, and gives its score, its title and text, and
        the reason for dropping it. If passages have probabilities, the probability follows the score.

        Example:
            >>> passages = (Passage("Dinant lies on the Meuse.", title="Dinant"), Passage("Ghent is a city."))
            >>> print(Pruned("Which river?", passages, (KeptPassage(0, passages[0].text, 0.5),),
            ...              (DroppedPassage(1, "rank 2 of 2, the top 1 are kept", 0.1),), draft="Meuse").explain())
            kept 1 of 2 passages for 'Which river?', draft 'Meuse'
              kept     0  +0.5000  Dinant: Dinant lies on the Meuse.
              dropped  1  +0.1000  Ghent is a city.  (rank 2 of 2, the top 1 are kept)
        """
        lines = [f"kept {len(self.kept)} of {len(self.passages)} passages for {self.question!r}"]
        if self.draft is not None:
            lines[0] += f", draft {self.draft!r}"
        if self.fallback:
            lines[0] += f" ({self.fallback})"
        reasons = {item.index: item.reason for item in self.dropped}
        probabilities = {item.index: item.probability for item in self.kept}
        probabilities |= {item.index: item.probability for item in self.dropped}
        known = any(value is not None for value in probabilities.values())
        for index, (passage, score) in enumerate(zip(self.passages, self.scores, strict=True)):
            shown = f"{passage.title}: {passage.text}" if passage.title else passage.text
            number = "      -" if score is None else f"{score:+7.4f}"
            if known:
                number += "      -" if probabilities[index] is None else f"{probabilities[index]:7.3f}"
            line = f"{'dropped' if index in reasons else 'kept':7}  {index}  {number}  {' '.join(shown.split())[:60]}"
            lines.append(f"  {line}  ({reasons[index]})" if index in reasons else f"  {line}")
        return "\n".join(lines)
