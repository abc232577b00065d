"""Tables of faithfulness: LDS and top-k drop, and the three tests of "Attention is not Explanation"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from at2_prune.catalogue import label_of

from .cells import FEW_QUESTIONS, TOO_FEW, Rows, estimate, is_outside, rivals

__all__ = ["ablation_difference_rows", "ablation_rows", "faithfulness_line", "faithfulness_rows"]


def faithfulness_line(part: Mapping[str, Any]) -> str:
    """Describe in sentences how faithfulness was measured."""
    left_out = ", ".join(f"{count} {reason}" for reason, count in part["left_out"].items())
    settings = part["settings"]
    skipped = ", ".join(label_of(name) for name in part.get("order_skipped", ()))
    return (
        f"{part['n']} questions{f' (left out: {left_out})' if left_out else ''}, {part['ablations']} ablations each. "
        f"Answers are written from the best {settings['permutation_k']} sources. "
        f"Scores are permuted {settings['permutations']} times."
        f"{f' Methods without the order test: {skipped}.' if skipped else ''}"
        f"{f' {TOO_FEW}' if part['n'] < FEW_QUESTIONS else ''}"
    )


def ablation_rows(part: Mapping[str, Any]) -> Rows:
    """Return the rows of the table of LDS and top-k drop, one row for each method."""
    ks = [str(k) for k in part["ks"]]
    rows = [["method", "LDS", *(f"top-{k} drop" for k in ks)]]
    for name in _measured(part["lds"], part["top_k_drop"]):
        drops = part["top_k_drop"].get(name, {})
        rows.append([label_of(name), estimate(part["lds"].get(name)), *(estimate(drops.get(k)) for k in ks)])
    return rows


def ablation_difference_rows(part: Mapping[str, Any]) -> Rows:
    """Return the rows of the table of differences in LDS and top-k drop, one row for each method.

    A difference is the value of a method minus the value of AT2 on the same questions. It is bold if its interval does
    not contain 0.
    """
    differences = part.get("paired") or {}
    ks = [str(k) for k in part["ks"]]

    def cell(value: Any) -> str:
        return estimate(value, "+", bold=value is not None and is_outside(value))

    rows = [["method", "LDS", *(f"top-{k} drop" for k in ks)]]
    for name in _measured(differences):
        drops = differences[name]["top_k_drop"]
        rows.append([label_of(name), cell(differences[name]["lds"]), *(cell(drops.get(k)) for k in ks)])
    return rows


def faithfulness_rows(part: Mapping[str, Any]) -> Rows:
    """Return the rows of the table of the three tests, one row for each method.

    A dash stands for a test that the method did not take.
    """
    kendall, permutation, order = (part.get(test) or {} for test in ("kendall", "permutation", "order"))
    header = ["method", *(f"τ with {label_of(other).lower()}" for other in kendall)]
    if permutation:
        header += ["same answer, scores", "same answer, permuted", "difference"]
    if order:
        header += ["τ by content", "τ by position"]
    rows = [header]
    for name in _measured(*kendall.values(), permutation, order):
        row = [label_of(name), *(estimate(values.get(name)) for values in kendall.values())]
        if permutation:
            found = permutation.get(name, {})
            difference = found.get("difference")
            row += [estimate(found.get("scores")), estimate(found.get("permuted"))]
            row.append(estimate(difference, "+", bold=difference is not None and is_outside(difference)))
        if order:
            row += [estimate(order.get(name, {}).get(match)) for match in ("content", "position")]
        rows.append(row)
    return rows


def _measured(*tables: Mapping[str, Any]) -> list[str]:
    return rivals(dict.fromkeys(name for table in tables for name in table))
