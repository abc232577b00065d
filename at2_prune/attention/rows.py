"""Row groups: named sets of query positions whose attention is read together.

A `RowGroup` names rows by their role, for any prompt; head coefficients are learned for these. `Rows` and `Reading`
name rows by their positions in one sequence; the reader reads these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..errors import CoefficientsError, InputError
from .measures import MEASURES, Measure

__all__ = ["DRAFT_ROWS", "Reading", "RowGroup", "Rows", "Span"]

Span = tuple[int, int]
"""Token positions `(start, stop)`."""
ROWS: tuple[Literal["draft", "question", "last", "sources"], ...] = ("draft", "question", "last", "sources")


@dataclass(frozen=True)
class RowGroup:
    """Rows of the prompt or the draft that are read together, by what they are rather than by position."""

    rows: Literal["draft", "question", "last", "sources"]
    """The rows that predict the draft's tokens; the question's own tokens; the prompt's last row; or each source's own
    tokens, whose attention to earlier sources links the two."""
    reduce: Literal["mean", "max"] = "mean"
    measure: Measure = "attention"
    """Attention itself, or what is made of it; see `at2_prune.attention.measures`."""

    def __post_init__(self) -> None:
        if self.rows not in ROWS or self.reduce not in ("mean", "max"):
            raise CoefficientsError(
                f"row group {self.rows!r} by {self.reduce!r} is unknown: rows are {', '.join(ROWS)}, reduced by mean "
                "or max"
            )
        if self.measure not in MEASURES:
            raise CoefficientsError(f"measure {self.measure!r} is unknown: there are {', '.join(MEASURES)}")

    @property
    def name(self) -> str:
        """`rows`, then what is not the default: `draft`, `question-max`, `draft-max-contribution`."""
        parts = [self.rows, self.reduce, self.measure]
        return "-".join(part for part in parts if part not in ("mean", "attention"))

    @classmethod
    def from_name(cls, name: str) -> RowGroup:
        """The row group of that name.

        Raises:
            CoefficientsError: there is none.

        Example:
            >>> RowGroup.from_name("draft-contribution")
            RowGroup(rows='draft', reduce='mean', measure='contribution')
        """
        reductions: tuple[Literal["mean", "max"], ...] = ("mean", "max")
        groups = {g.name: g for g in (cls(r, by, measure) for r in ROWS for by in reductions for measure in MEASURES)}
        if name not in groups:
            raise CoefficientsError(f"no row group is called {name!r}; there are {', '.join(groups)}")
        return groups[name]


DRAFT_ROWS = RowGroup("draft")


@dataclass(frozen=True)
class Rows:
    """A group of query positions whose attention is read together.

    Row `t` is the position whose output predicts token `t + 1`: the rows of a draft at tokens `[a, b)` are
    `Rows("draft", a - 1, b - 1)`.
    """

    name: str
    """How the group is called in the result and in the head coefficients."""
    start: int
    """First row, a position in the unpadded sequence."""
    stop: int | None = None
    """One past the last row; None reads every row from `start` on, as many as the model gets to."""
    reduce: Literal["mean", "max", "none"] = "mean"
    """Mean or max over the group's rows, or one entry a row."""
    measure: Measure = "attention"
    """What is summed over a source's tokens; see `at2_prune.attention.measures`."""


@dataclass(frozen=True)
class Reading:
    """What to read from one sequence of a batch."""

    sources: Sequence[Span]
    """Token spans `(start, stop)` in the unpadded sequence, in order, without overlap; a span may be empty."""
    rows: Sequence[Rows]
    padding: int = 0
    """Padding tokens to the left of the sequence."""

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
