"""The methods of a run. A method chooses which passages of a question to keep at every k."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from at2_prune.attention.rows import RowGroup
from at2_prune.datasets import Question
from at2_prune.errors import DataError, InputError
from at2_prune.pruning.selection import top_k
from at2_prune.scorers import Scorer, Task

from ..k_values import ALL, GOLD
from ..loop.cached_loop import CachedLoop
from ..loop.cost import Cost

__all__ = ["Choice", "Method", "NoPruning", "Oracle", "Pruning", "as_methods"]


@dataclass(frozen=True)
class Choice:
    """The passages that a method keeps of one question."""

    kept: dict[str, list[int]]
    """The indices of the kept passages, in the order in which they are shown. A key is k as a string, `all` or `gold`.
    There is no key `auto`: the answers decide later which k of `AUTO_KS` the value `auto` takes."""
    scores: list[float] | None = None
    """One score for each passage. None if the method does not score, or if there was no draft to score by."""
    cost: Cost = field(default_factory=Cost)
    """The cost of choosing. It does not include the cost of the draft and of the attention that was read with the
    draft."""
    fell_back: bool = False
    """True if the draft was empty. There are then no scores, and the first k passages are kept."""


class Method(Protocol):
    """A way to choose passages."""

    name: str
    row_groups: tuple[RowGroup, ...]
    """The row groups whose attention is read with the draft."""
    uses_draft: bool
    """True if the method needs the draft, so that the draft is part of the method's cost."""
    scores: bool
    """True if the method ranks the passages, so that any number of passages can be kept."""

    def choose(self, loop: CachedLoop, task: Task, question: Question, ks: Sequence[int]) -> Choice:
        """Choose the passages to keep at every k.

        Args:
            loop: the pruning loop, which measures the cost.
            task: the prompt, the draft, and the attention that was read with the draft.
            question: the question with its passages.
            ks: the numbers of passages to keep.
        """
        ...


class NoPruning:
    """Keeps every passage. The draft is then the answer."""

    name = "none"
    row_groups: tuple[RowGroup, ...] = ()
    uses_draft = True
    scores = False

    def choose(self, loop: CachedLoop, task: Task, question: Question, ks: Sequence[int]) -> Choice:
        return Choice({ALL: list(range(len(task.passages)))})


class Oracle:
    """Keeps exactly the gold passages.

    Raises:
        DataError: the question names no gold passages.
    """

    name = "oracle"
    row_groups: tuple[RowGroup, ...] = ()
    uses_draft = False
    scores = False

    def choose(self, loop: CachedLoop, task: Task, question: Question, ks: Sequence[int]) -> Choice:
        if not question.gold:
            raise DataError(f"question {question.id!r} names no gold passages (supporting_facts), so it has no oracle")
        return Choice({GOLD: list(question.gold)})


class Pruning:
    """Keeps the k passages with the highest scores, in their original order.

    Args:
        scorer: the scorer that gives the scores. The method has the scorer's name.
    """

    scores = True

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer
        self.name = scorer.name
        self.row_groups = scorer.draft_groups
        self.uses_draft = scorer.uses_draft

    def choose(self, loop: CachedLoop, task: Task, question: Question, ks: Sequence[int]) -> Choice:
        scored = loop.score(self.scorer, task)
        kept = {str(k): top_k(scored.scores, k) for k in ks}
        if scored.error is not None:
            return Choice(kept, fell_back=True)
        return Choice(kept, scored.scores, scored.cost)


def as_methods(scorers: Sequence[Scorer]) -> list[Method]:
    """List the methods of a run: no pruning, one method for each scorer, and the oracle.

    Raises:
        InputError: two methods have the same name.
    """
    methods: list[Method] = [NoPruning(), *(Pruning(scorer) for scorer in scorers), Oracle()]
    names = [method.name for method in methods]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(f"every method needs its own name, but {repeated} repeat")
    return methods
