"""Defines row groups: named sets of query positions whose attention is read together.

A row is a query position. The attention weights of a query form one row of the attention matrix. A `RowGroup` names
rows by their role, which is the same in every prompt. Head coefficients are learned for row groups. `Rows` and
`Reading` give the positions of rows in one sequence. The attention reader needs these positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..errors import CoefficientsError, InputError
from .measures import MEASURES, Measure

__all__ = ["DRAFT_ROWS", "Reading", "RowGroup", "Rows", "Span"]

Span = tuple[int, int]
"""A pair of positions of tokens or characters, `(start, stop)`. The position `stop` is not included."""
ROWS: tuple[Literal["draft", "question", "last"], ...] = ("draft", "question", "last")


@dataclass(frozen=True)
class RowGroup:
    """A set of rows that have the same role and are read together.

    The rows belong to the prompt or to the draft. A draft is a first answer to the question.
    """

    rows: Literal["draft", "question", "last"]
    """The role of the rows. The rows `draft` predict the tokens of the draft. The rows `question` are at the tokens of
    the question. The row `last` is at the last token of the prompt."""
    reduce: Literal["mean", "max"] = "mean"
    """The reduction over the rows: their mean or their maximum."""
    measure: Measure = "attention"
    """The measure that is read: attention itself, or another measure; see `at2_prune.attention.measures`."""

    def __post_init__(self) -> None:
        if self.rows not in ROWS or self.reduce not in ("mean", "max"):
            raise CoefficientsError(
                f"row group {self.rows!r} reduced by {self.reduce!r} is unknown: rows are {', '.join(ROWS)}, reduced "
                "by mean or max"
            )
        if self.measure not in MEASURES:
            raise CoefficientsError(f"measure {self.measure!r} is unknown: the measures are {', '.join(MEASURES)}")

    @property
    def name(self) -> str:
        """The rows, then each setting that is not the default. Examples are `question-max` and `draft-contribution`."""
        parts = [self.rows, self.reduce, self.measure]
        return "-".join(part for part in parts if part not in ("mean", "attention"))

    @classmethod
    def from_name(cls, name: str) -> RowGroup:
        """Return the row group with the given name.

        Raises:
            CoefficientsError: there is no such row group.

        Example:
            >>> RowGroup.from_name("draft-contribution")
            RowGroup(rows='draft', reduce='mean', measure='contribution')
        """
        reductions: tuple[Literal["mean", "max"], ...] = ("mean", "max")
        groups = {g.name: g for g in (cls(r, by, measure) for r in ROWS for by in reductions for measure in MEASURES)}
        if name not in groups:
            raise CoefficientsError(f"no row group is called {name!r}; the row groups are {', '.join(groups)}")
        return groups[name]


DRAFT_ROWS = RowGroup("draft")


@dataclass(frozen=True)
class Rows:
    """A range of query positions in one sequence whose attention is read together.

    The output at row `t` predicts token `t + 1`. So if a draft has the tokens `[a, b)`, its rows are
    `Rows("draft", a - 1, b - 1)`.
    """

    name: str
    """The group's name in the result and in the head coefficients."""
    start: int
    """The first row, as a position in the unpadded sequence."""
    stop: int | None = None
    """The position after the last row. With `None`, all rows from `start` on are read."""
    reduce: Literal["mean", "max", "none"] = "mean"
    """The reduction over the rows: their mean or their maximum. With `none`, the rows are not reduced."""
    measure: Measure = "attention"
    """The measure that is summed over a source's tokens; see `at2_prune.attention.measures`."""


@dataclass(frozen=True)
class Reading:
    """The sources and the rows to read, for one sequence of a batch."""

    sources: Sequence[Span]
    """Token spans `(start, stop)` in the unpadded sequence, in order and without overlap. A span may be empty."""
    rows: Sequence[Rows]
    padding: int = 0
    """The number of padding tokens to the left of the sequence."""

    def __post_init__(self) -> None:
        end = 0
        for index, (start, stop) in enumerate(self.sources):
            if start < end or stop < start:
                raise InputError(f"source {index} spans tokens {(start, stop)}: spans must be in order and not overlap")
            end = stop
        names = [group.name for group in self.rows]
        if len(set(names)) != len(names):
            raise InputError(f"row groups must have different names, got {names}")
        for group in self.rows:
            if group.start < 0 or (group.stop is not None and group.stop <= group.start):
                raise InputError(f"row group {group.name!r} is empty: rows [{group.start}, {group.stop})")
