"""Cells and rows of tables: estimates with their intervals, and Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from at2_prune.catalogue import DEFAULT_METHOD, by_family, label_of

__all__ = [
    "FEW_QUESTIONS",
    "TOO_FEW",
    "Estimates",
    "Rows",
    "estimate",
    "is_outside",
    "main_method",
    "markdown",
    "ordered",
    "references",
    "rivals",
]

FEW_QUESTIONS = 30
"""With fewer questions, a bootstrap interval is too narrow to rely on."""
TOO_FEW = f"With fewer than {FEW_QUESTIONS} questions, the intervals are too narrow to rely on."

Estimates = Mapping[str, Any]
"""A mean and its 95 % interval, under the keys `mean`, `low` and `high`."""
Rows = list[list[str]]
"""The rows of a table. The first row is the header."""


def estimate(value: Estimates | None, sign: str = "", decimals: int = 3, bold: bool = False) -> str:
    """Format an estimate as `mean [low, high]`, or as a dash if there is no value.

    Args:
        value: the mean and its interval.
        sign: with `+`, positive numbers have a sign too.
        decimals: the number of decimals.
        bold: whether Markdown shows the mean in bold.

    Example:
        >>> estimate({"mean": 0.05, "low": 0.01, "high": 0.09}, sign="+", decimals=2)
        '+0.05 [+0.01, +0.09]'
    """
    if value is None:
        return "–"
    mean, low, high = (f"{value[key]:{sign}.{decimals}f}" for key in ("mean", "low", "high"))
    return f"**{mean}** [{low}, {high}]" if bold else f"{mean} [{low}, {high}]"


def is_outside(difference: Estimates) -> bool:
    """Return whether 0 is outside the interval of a difference."""
    return bool(difference["low"] > 0 or difference["high"] < 0)


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Write rows as a Markdown table, the header first. Characters that would break the table are escaped."""
    header, *rest = [[" ".join(cell.split()).replace("|", "\\|").replace("<", "&lt;") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *rest])


def rivals(names: Iterable[str]) -> list[str]:
    """Return all methods except no pruning and the oracle, grouped by family."""
    return [name for members in by_family(names).values() for name in members]


def ordered(names: Mapping[str, Any]) -> list[str]:
    """Return the methods in the order of tables: no pruning, then the methods of each family, then the oracle."""
    return [name for name in ("none", *rivals(names), "oracle") if name in names]


def main_method(names: Iterable[str]) -> str:
    """Return the main method of a run: the default method, else AT2, else the first method.

    Return an empty text if the run has no methods except `none` and `oracle`.

    Example:
        >>> main_method(["none", "at2", "scout"]), main_method(["none", "bm25", "at2"]), main_method(["none", "bm25"])
        ('scout', 'at2', 'bm25')
    """
    known = rivals(names)
    return next((name for name in (DEFAULT_METHOD, "at2", *known) if name in known), "")


def references(paired: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the methods with which other methods are compared: no pruning and the main method.

    The second value of each pair is the method's name in a sentence.

    Args:
        paired: the differences of a run, by the method that other methods are compared with.

    Example:
        >>> references({"none": {}, "at2": {}, "scout": {}, "bm25": {}})
        [('none', 'no pruning'), ('scout', 'Scout at the same k')]
    """
    main = main_method(name for name in paired if name in (DEFAULT_METHOD, "at2"))
    named = [("none", "no pruning"), (main, f"{label_of(main)} at the same k")]
    return [(name, title) for name, title in named if name in paired]
