"""Tables of scores: answer F1 by method and k, differences in F1, and all metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from at2_prune.catalogue import label_of

from ..k_values import ALL, GOLD, k_label, sorted_ks
from .cells import Rows, estimate, is_outside, ordered, rivals

__all__ = ["MARKS", "all_rows", "difference_rows", "f1_rows", "reference_line"]

MARKS = (
    "↑ ↓: higher or lower than no pruning on the same questions, and the 95 % bootstrap interval of the difference "
    "does not contain 0."
)

_ANSWER = {"f1": "F1", "em": "EM", "precision": "precision", "recall": "recall"}
_KEPT = {
    "gold_precision": "gold precision",
    "gold_recall": "gold recall",
    "gold_f1": "gold F1",
    "both_gold": "both gold",
}


def reference_line(results: Mapping[str, Any]) -> str:
    """Return a sentence with the F1 of no pruning and of the oracle."""
    methods = results["methods"]
    parts = [
        f"{label} {estimate(methods[name]['at'][k]['f1'])}"
        for name, k, label in (
            ("none", ALL, "No pruning:"),
            ("oracle", GOLD, "the oracle, which keeps only the gold passages:"),
        )
        if name in methods
    ]
    return f"{'; '.join(parts)}." if parts else ""


def f1_rows(results: Mapping[str, Any], intervals: bool = True) -> Rows:
    """Return the rows of the table of F1 by method and k. `MARKS` explains the marks in the cells."""
    methods, paired = results["methods"], results["paired"].get("none", {})

    def cell(name: str, k: str) -> str:
        if k not in methods[name]["at"]:
            return ""
        value = methods[name]["at"][k]["f1"]
        difference = paired.get(name, {}).get(k)
        outside = difference is not None and is_outside(difference["f1"])
        higher = outside and difference["f1"]["low"] > 0
        text = estimate(value, bold=higher)
        text = text if intervals else text[: text.index(" [")]
        return f"{text} {'↑' if higher else '↓'}" if outside else text

    return _by_k(methods, cell)


def difference_rows(results: Mapping[str, Any], reference: str) -> Rows:
    """Return the rows of the table of differences in F1, by method and k.

    A difference is the F1 of a method minus the F1 of the reference on the same questions. It is bold if its interval
    does not contain 0.
    """
    paired = results["paired"].get(reference, {})

    def cell(name: str, k: str) -> str:
        difference = paired[name].get(k)
        return estimate(difference["f1"], "+", bold=is_outside(difference["f1"])) if difference else ""

    return _by_k({name: {"at": entries} for name, entries in paired.items() if name != reference}, cell)


def all_rows(results: Mapping[str, Any], which: str) -> Rows:
    """Return a header and a row for each method and k, with all metrics of one kind.

    Args:
        results: the content of `results.json`.
        which: `answer` for the metrics of the answer, or `kept` for the metrics of the kept passages.
    """
    metrics = _ANSWER if which == "answer" else _KEPT
    rows = [["method", "k", *metrics.values(), *([] if which == "answer" else ["prompt tokens"])]]
    for name in ordered(results["methods"]):
        for k, entry in results["methods"][name]["at"].items():
            row = [label_of(name), k_label(name, k), *(estimate(entry.get(metric)) for metric in metrics)]
            if which != "answer":
                row.append(estimate(entry.get("prompt_tokens"), decimals=0))
            rows.append(row)
    return rows


def _by_k(methods: Mapping[str, Any], cell: Callable[[str, str], str]) -> Rows:
    names = rivals(methods)
    ks = sorted_ks(k for name in names for k in methods[name]["at"])
    return [["method", *(f"k = {k}" for k in ks)], *([label_of(name), *(cell(name, k) for k in ks)] for name in names)]
