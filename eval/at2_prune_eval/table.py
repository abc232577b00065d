"""Results as a table, for the terminal and as Markdown, with a sentence that says how to read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .results import REFERENCE

__all__ = ["FEW_QUESTIONS", "markdown_table", "reading", "text_table"]

FEW_QUESTIONS = 30
"""With fewer, a bootstrap interval is too narrow to go by."""

HEADER = ("method", "k", "F1", "EM", "recall", "seconds", f"ΔF1 vs {REFERENCE}")
_LABELS = {("none", "all"): "all", ("oracle", "all"): "gold"}


def text_table(results: Mapping[str, Any]) -> str:
    """The table in columns, one row per method and k; brackets hold 95 % intervals.

    Example:
        >>> spread = {"mean": 0.5, "low": 0.25, "high": 0.75}
        >>> entry = {"f1": spread, "em": spread, "recall": spread, "seconds": spread}
        >>> print(text_table({"n": 40, "methods": {"none": {"all": entry}}, "paired": {"none": {}}}))
        method  k    F1                    EM                    recall                seconds  ΔF1 vs none
        ------  ---  --------------------  --------------------  --------------------  -------  -----------
        none    all  0.500 [0.250, 0.750]  0.500 [0.250, 0.750]  0.500 [0.250, 0.750]  0.50
    """
    rows = [HEADER, *_rows(results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    rows.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def markdown_table(results: Mapping[str, Any]) -> str:
    """The same as a Markdown table."""
    rows = [HEADER, ("---",) * len(HEADER), *_rows(results)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def reading(results: Mapping[str, Any]) -> str:
    """Which gains over no pruning, and which losses, are outside their intervals. The oracle is no rival.

    Example:
        >>> gain = {"f1": {"mean": 0.1, "low": 0.05, "high": 0.15}}
        >>> loss = {"f1": {"mean": -0.2, "low": -0.3, "high": -0.1}}
        >>> print(reading({"n": 200, "paired": {"none": {"at2": {"1": loss, "3": gain}, "oracle": {"all": gain}}}}))
        Gains over no pruning outside their 95 % intervals: at2 (k = 3). Losses: at2 (k = 1). (2 comparisons, N = 200.)
    """
    rivals = {name: entries for name, entries in results["paired"][REFERENCE].items() if name != "oracle"}
    gains: list[str] = []
    losses: list[str] = []
    for name, entries in rivals.items():
        for found, ks in (
            (gains, [k for k, entry in entries.items() if entry["f1"]["low"] > 0]),
            (losses, [k for k, entry in entries.items() if entry["f1"]["high"] < 0]),
        ):
            if ks:
                found.append(f"{name} (k = {', '.join(ks)})")
    if gains:
        text = f"Gains over no pruning outside their 95 % intervals: {', '.join(gains)}."
    else:
        text = "No method's gain over no pruning is outside its 95 % interval."
    if losses:
        text += f" Losses{'' if gains else ' that are'}: {', '.join(losses)}."
    n = results["n"]
    comparisons = sum(map(len, rivals.values()))
    text += f" ({comparisons} comparison{'' if comparisons == 1 else 's'}, N = {n}.)"
    if n < FEW_QUESTIONS:
        text += f" With fewer than {FEW_QUESTIONS} questions the intervals themselves are too narrow to go by."
    return text


def _rows(results: Mapping[str, Any]) -> list[tuple[str, ...]]:
    paired = results["paired"][REFERENCE]
    rows = []
    for name, entries in results["methods"].items():
        for k, entry in entries.items():
            difference = paired.get(name, {}).get(k)
            rows.append(
                (
                    name,
                    _LABELS.get((name, k), k),
                    *(_interval(entry[metric]) for metric in ("f1", "em", "recall")),
                    f"{entry['seconds']['mean']:.2f}",
                    _interval(difference["f1"], "+") if difference else "",
                )
            )
    return rows


def _interval(estimate: Mapping[str, float], sign: str = "") -> str:
    mean, low, high = (f"{estimate[key]:{sign}.3f}" for key in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"
