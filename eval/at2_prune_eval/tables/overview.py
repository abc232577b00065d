"""Write the table of a whole run, for the terminal or in Markdown. It has a row for each method and k."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from at2_prune.catalogue import REFERENCES, label_of

from ..k_values import k_label
from .cells import Rows, estimate, is_outside, markdown, ordered, references
from .cost import has_reader, reader_tokens, seconds_to_choose, whole_passes

__all__ = ["about_costs", "markdown_table", "text_table"]

ABOUT_COST = (
    "Passes count the work to choose passages and to read the kept passages. One pass is one forward pass over the "
    "whole prompt. A draft counts as one pass. The seconds to choose include the draft, but not the writing of the "
    "answer."
)
ABOUT_TWO_MODELS = (
    "Passes count the reader's work to draft and to read the kept passages. One pass is one forward pass over the "
    "whole prompt. Reader tokens are the tokens of these passes. The seconds to choose include the draft and the "
    "scoring model's work, but not the writing of the answer."
)

_SHARES = {"f1": "F1", "em": "EM", "gold_recall": "gold recall", "both_gold": "both gold"}


def about_costs(results: Mapping[str, Any]) -> str:
    """Return the sentences that explain the costs in the table."""
    if not has_reader(results):
        return ABOUT_COST
    config = results["config"]
    return f"The reader is {config['reader']['model']}, and {config['model']} scores. {ABOUT_TWO_MODELS}"


def text_table(results: Mapping[str, Any]) -> str:
    """Format the table as text in columns. It has a row for each method and k. Brackets hold 95 % intervals.

    Example:
        >>> half = {"mean": 0.5, "low": 0.25, "high": 0.75}
        >>> entry = {"f1": half, "em": half, "gold_recall": half, "both_gold": half, "prompt_tokens": half}
        >>> none = {"at": {"all": {**entry, "prompt_tokens": {"mean": 2.0}}}}
        >>> at2 = {"cost": {"passes": half, "seconds": half}, "uses_draft": True, "at": {"2": entry}}
        >>> results = {"draft": {"seconds": half}, "methods": {"none": none, "at2": at2}, "paired": {}}
        >>> print(text_table(results))
        method      k    F1                    EM     gold recall  both gold  passes  seconds to choose
        ----------  ---  --------------------  -----  -----------  ---------  ------  -----------------
        No pruning  all  0.500 [0.250, 0.750]  0.500  0.500        0.500      1.00
        AT2         2    0.500 [0.250, 0.750]  0.500  0.500        0.500      1.75    1.00
    """
    header, *rows = _rows(results, only_f1=True)
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def markdown_table(results: Mapping[str, Any]) -> str:
    """Format the table of `text_table` in Markdown, with the intervals of all metrics.

    A difference is bold if its interval does not contain 0.
    """
    return markdown(_rows(results, bold=True))


def _rows(results: Mapping[str, Any], only_f1: bool = False, bold: bool = False) -> Rows:
    paired = results["paired"]
    compared_to = [name for name, _ in references(paired) if paired[name]]
    versus = [f"ΔF1 vs {name if name == 'none' else label_of(name)}" for name in compared_to]
    apart = has_reader(results)
    tokens = ["reader tokens"] if apart else []
    rows = [["method", "k", *_SHARES.values(), "passes", *tokens, "seconds to choose", *versus]]
    for name in ordered(results["methods"]):
        method = results["methods"][name]
        seconds = "" if name in REFERENCES else f"{seconds_to_choose(results, name):.2f}"
        for k, entry in method["at"].items():
            shares = [
                f"{entry[metric]['mean']:.3f}" if only_f1 and metric != "f1" else estimate(entry[metric])
                for metric in _SHARES
            ]
            passes = whole_passes(results, name, k)
            costs = [f"{sum(passes):.2f}" if passes else "", seconds]
            if apart:
                costs.insert(1, f"{reader_tokens(results, name, k):.0f}")
            differences = [paired[reference].get(name, {}).get(k) for reference in compared_to]
            compared = [
                estimate(difference["f1"], "+", bold=bold and is_outside(difference["f1"])) if difference else ""
                for difference in differences
            ]
            rows.append([label_of(name), k_label(name, k), *shares, *costs, *compared])
    return rows
