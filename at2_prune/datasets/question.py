"""A question with its passages."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from ..passages import Passage

__all__ = ["Question"]


@dataclass(frozen=True)
class Question:
    """A question, its retrieved passages and, where the data has them, its answer and the passages that support it."""

    id: str
    text: str
    passages: tuple[Passage, ...]
    answer: str | None = None
    gold: tuple[int, ...] = ()
    """Indices of the supporting passages."""
    kind: str | None = None
    """The data set's own type: `bridge` or `comparison` in HotpotQA, `2hop`, `3hop1`, ... in MuSiQue."""
    aliases: tuple[str, ...] = ()
    """Other answers that are as right as `answer`."""

    def shuffled(self, seed: int) -> Question:
        """The question with its passages in an order that depends on `seed` and its id alone; `gold` follows.

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
