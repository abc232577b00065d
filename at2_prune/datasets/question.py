"""A question with its passages."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from ..passages import Passage

__all__ = ["Question"]


@dataclass(frozen=True)
class Question:
    """A question with its retrieved passages.

    The answer and the supporting passages are set if the data set gives them.

    Example:
        >>> question = Question("q1", "Which river?", (Passage("Dinant lies on the Meuse."),), "the Meuse", gold=(0,))
        >>> question.passages[question.gold[0]].text
        'Dinant lies on the Meuse.'
    """

    id: str
    text: str
    passages: tuple[Passage, ...]
    answer: str | None = None
    gold: tuple[int, ...] = ()
    """Indices of the supporting passages."""
    kind: str | None = None
    """The type of the question in the data set: for HotpotQA `bridge` or `comparison`, for MuSiQue `2hop`, `3hop1` and
    others."""
    aliases: tuple[str, ...] = ()
    """Other answers that are as correct as `answer`."""

    def shuffled(self, seed: int) -> Question:
        """Return a copy of the question with shuffled passages. `gold` holds the indices in the new order.

        The order depends only on `seed` and on the question's id.

        Example:
            >>> question = Question("q1", "Who?", (Passage("one"), Passage("two"), Passage("three")), gold=(2,))
            >>> shuffled = question.shuffled(0)
            >>> [passage.text for passage in shuffled.passages], shuffled.gold
            (['two', 'three', 'one'], (1,))
        """
        order = list(range(len(self.passages)))
        random.Random(f"{seed}:{self.id}").shuffle(order)
        passages = tuple(self.passages[index] for index in order)
        return replace(self, passages=passages, gold=tuple(sorted(order.index(index) for index in self.gold)))
