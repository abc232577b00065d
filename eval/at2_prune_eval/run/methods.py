"""Methods: which passages to keep for a question, at every k."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from at2_prune.attention.rows import RowGroup
from at2_prune.datasets import Question
from at2_prune.errors import DataError, InputError
from at2_prune.pruning.selection import AUTO, K, check_k, top_k
from at2_prune.scorers import Scorer, Task

from ..k_values import ALL, GOLD
from ..loop.cached_loop import CachedLoop
from ..loop.cost import Cost

__all__ = ["Choice", "Method", "NoPruning", "Oracle", "Pruning", "as_methods", "check_ks"]


@dataclass(frozen=True)
class Choice:
    """What a method keeps of one question."""

    kept: dict[str, list[int]]
    """By k as a string, `all` or `gold`: indices of passages, in the order they are shown. `auto` is not among them: it
    is the one of `AUTO_KS` whose answer turns out to be the most confident."""
    scores: list[float] | None = None
    """One a passage, for a method that scores."""
    cost: Cost = field(default_factory=Cost)
    """Of choosing, on top of the draft and of what was read while it was written."""
    fell_back: bool = False
    """The draft was empty, so there were no scores: the first k passages are kept."""


class Method(Protocol):
    """A way to choose passages."""

    name: str
    row_groups: tuple[RowGroup, ...]
    """The attention that is read with the draft."""
    uses_draft: bool
    """Whether the draft is part of what it costs."""

    scores: bool
    """Whether it ranks, so that it can keep any number of passages."""

    def choose(self, loop: CachedLoop, task: Task, question: Question, ks: Sequence[int]) -> Choice:
        """Kept passages at every k; `task` holds the prompt, the draft and its attention."""
        ...


class NoPruning:
    """Keeps every passage: the answer is the draft."""

    name = "none"
    row_groups: tuple[RowGroup, ...] = ()
    uses_draft = True
    scores = False

    def choose(self, loop: CachedLoop, task: Task, question: Question, ks: Sequence[int]) -> Choice:
        return Choice({ALL: list(range(len(task.passages)))})


class Oracle:
    """Keeps the gold passages: what a perfect choice would give.

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
    """Keeps the k passages that a scorer puts highest, in their original order.

    Args:
        scorer: its name becomes the method's.
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
    """No pruning, a method a scorer, and the oracle.

    Raises:
        InputError: two methods of one name.
    """
    methods: list[Method] = [NoPruning(), *(Pruning(scorer) for scorer in scorers), Oracle()]
    names = [method.name for method in methods]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(f"every method needs a name of its own, but {repeated} repeat")
    return methods


def check_ks(ks: Sequence[K]) -> list[K]:
    """The values of k, ascending, each once; `auto` last.

    Raises:
        InputError: there are none, or one is neither an integer of at least 1 nor `auto`.

    Example:
        >>> check_ks(["auto", 3, 1, 3])
        [1, 3, 'auto']
    """
    numbers = {k for k in ks if k != AUTO}
    for k in numbers:
        check_k(k)
    if not ks:
        raise InputError("give at least one k, the number of passages to keep")
    return [*sorted(numbers), *([AUTO] if AUTO in ks else [])]
