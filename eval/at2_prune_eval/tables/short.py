"""Write the short table of docs/findings.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .cells import markdown, rivals
from .cost import whole_passes
from .reading import comparisons
from .scores import MARKS, f1_rows, reference_line

__all__ = ["short_table"]


def short_table(results: Mapping[str, Any], k: str = "3") -> str:
    """Return a table of F1 by method and k, without intervals. The last column has the forward passes at one k.

    A line below the table explains the marks.

    Args:
        results: the content of `results.json`.
        k: the value of k for which forward passes are shown.

    Returns:
        Markdown.

    Example:
        >>> half = {"mean": 0.5, "low": 0.4, "high": 0.6}
        >>> methods = {"none": {"at": {"all": {"f1": half}}}, "at2": {"at": {"2": {"f1": half}}}}
        >>> results = {"n": 200, "methods": methods, "paired": {"none": {"at2": {"2": {"f1": half}}}}}
        >>> print(short_table(results))
        | method | k = 2 |
        | --- | --- |
        | AT2 | **0.500** ↑ |
        <BLANKLINE>
        No pruning: 0.500 [0.400, 0.600]. ↑ ↓: higher or lower than no pruning on the same questions, and the 95 % bootstrap interval of the difference does not contain 0. (N = 200, 1 comparison.)
    """  # noqa: E501
    total = len(list(comparisons(results, "none")))
    header, *rows = f1_rows(results, intervals=False)
    passes = [whole_passes(results, name, k) for name in rivals(results["methods"])]
    if any(passes):
        header = [*header, f"passes, k = {k}"]
        rows = [[*row, f"{sum(both):.2f}" if both else ""] for row, both in zip(rows, passes, strict=True)]
    return (
        f"{markdown([header, *rows])}\n\n{reference_line(results)} {MARKS} "
        f"(N = {results['n']}, {total} comparison{'s' * (total != 1)}.)"
    )
