"""Choose questions from a data set by id, type and number, and shuffle questions and passages."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from ..errors import InputError
from ..files import read_text
from .question import Question

__all__ = ["Selection", "SelectionOptions"]


class SelectionOptions(TypedDict, total=False):
    """The fields of `Selection` as keyword arguments, for type checkers."""

    ids: str | Path | None
    limit: int | None
    offset: int
    seed: int | None
    kinds: Collection[str] | None
    shuffle_passages: int | None


@dataclass(frozen=True)
class Selection:
    """The options that choose questions from a data set, and that set the order of questions and passages.

    The fields apply in this order: `ids`, `kinds`, `seed`, `offset`, `limit`, `shuffle_passages`.

    Raises:
        InputError: `limit` is below 1 or `offset` below 0.
    """

    ids: str | Path | None = None
    """A text file with an id on each line. Only the questions with these ids are used, in the order of the file."""
    limit: int | None = None
    """Use at most this many questions."""
    offset: int = 0
    """Leave out this many questions at the start."""
    seed: int | None = None
    """Shuffle the questions with this seed."""
    kinds: Collection[str] | None = None
    """The types of question to keep, such as `bridge` or `comparison`; by default all."""
    shuffle_passages: int | None = None
    """Shuffle the passages of each question. The order depends on this seed and the question's id."""

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise InputError(f"limit must be at least 1, got {self.limit}")
        if self.offset < 0:
            raise InputError(f"offset must be at least 0, got {self.offset}")

    def apply(self, questions: Sequence[Question], source: str | Path) -> list[Question]:
        """Select the questions to use from all questions of a data set.

        Args:
            questions: all questions.
            source: the name of the data set, for error messages.

        Raises:
            InputError: an id or a type is not in the data, the file of ids is empty, or `offset` leaves no question.
            DataError: the file of ids cannot be read.
        """
        chosen = list(questions)
        if self.ids is not None:
            chosen = _of_ids(chosen, Path(self.ids), source)
        if self.kinds:
            chosen = _of_kinds(chosen, self.kinds, source)
        if self.seed is not None:
            random.Random(self.seed).shuffle(chosen)
        if self.offset >= len(chosen):
            raise InputError(f"offset {self.offset} leaves none of the {len(chosen)} questions")
        chosen = chosen[self.offset :][: self.limit]
        seed = self.shuffle_passages
        return chosen if seed is None else [question.shuffled(seed) for question in chosen]


def _of_ids(questions: list[Question], file: Path, source: str | Path) -> list[Question]:
    ids = [line.strip() for line in read_text(file).splitlines() if line.strip()]
    known = {question.id: question for question in questions}
    missing = [wanted for wanted in ids if wanted not in known]
    if not ids:
        raise InputError(f"{file}: holds no ids; write one id on each line")
    if missing:
        raise InputError(
            f"{source}: {len(missing)} of the {len(ids)} ids in {file} are not in the data, for example {missing[0]!r}"
        )
    return [known[wanted] for wanted in ids]


def _of_kinds(questions: list[Question], kinds: Collection[str], source: str | Path) -> list[Question]:
    known = Counter(question.kind for question in questions if question.kind is not None)
    for kind in kinds:
        if kind not in known:
            types = ", ".join(f"{name} ({count})" for name, count in sorted(known.items()))
            raise InputError(
                f"{source}: no question has the type {kind!r}; "
                + (f"the types are {types}" if types else "the data set gives no types")
            )
    return [question for question in questions if question.kind in kinds]
