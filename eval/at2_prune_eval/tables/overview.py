"""Results as a table, for the terminal and as Markdown, and in words: what lies outside its interval."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from at2_prune.catalogue import REFERENCES, by_family, label_of

from ..k_values import k_label

__all__ = [
    "FEW_QUESTIONS",
    "TOO_FEW",
    "Estimates",
    "comparisons",
    "estimate",
    "forward_passes",
    "is_outside",
    "markdown",
    "markdown_table",
    "ordered",
    "passes_in_all",
    "reading",
    "text_table",
]

FEW_QUESTIONS = 30
"""With fewer, a bootstrap interval is too narrow to go by."""
TOO_FEW = f"With fewer than {FEW_QUESTIONS} questions the intervals themselves are too narrow to go by."

Estimates = Mapping[str, Any]
"""`mean, low, high`."""

_SHARES = {"f1": "F1", "em": "EM", "gold_recall": "gold recall", "both_gold": "both gold"}


def text_table(results: Mapping[str, Any]) -> str:
    """The table in columns, one row per method and k; brackets hold 95 % intervals.

    Example:
        >>> half = {"mean": 0.5, "low": 0.25, "high": 0.75}
        >>> entry = {"f1": half, "em": half, "gold_recall": half, "both_gold": half}
        >>> method = {"cost": {"passes": half, "seconds": half}, "uses_draft": True, "at": {"2": entry}}
        >>> print(text_table({"methods": {"at2": method}, "paired": {"none": {"at2": {"2": {"f1": half}}}}}))
        method  k  F1                    EM     gold recall  both gold  passes  seconds  ΔF1 vs none
        ------  -  --------------------  -----  -----------  ---------  ------  -------  -----------------------
        AT2     2  0.500 [0.250, 0.750]  0.500  0.500        0.500      1.5     0.50     +0.500 [+0.250, +0.750]
    """
    header, *rows = _rows(results, only_f1=True)
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def markdown_table(results: Mapping[str, Any]) -> str:
    """The same as a Markdown table, with every interval; differences outside theirs are bold."""
    return markdown(_rows(results, bold=True))


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Rows, the first of them the header, as a Markdown table; names that came from outside cannot break it."""
    header, *rest = [[" ".join(cell.split()).replace("|", "\\|").replace("<", "&lt;") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *rest])


def reading(results: Mapping[str, Any]) -> str:
    """What is outside its interval, against no pruning and against AT2, and how much of it chance would give.

    Example:
        >>> gain = {"f1": {"mean": 0.1, "low": 0.05, "high": 0.15}}
        >>> loss = {"f1": {"mean": -0.2, "low": -0.3, "high": -0.1}}
        >>> print(reading({"n": 200, "paired": {"none": {"at2": {"1": loss, "3": gain}, "oracle": {"gold": gain}}}}))
        F1 against no pruning: higher, outside the 95 % interval: AT2 (k = 3); lower: AT2 (k = 1). (2 comparisons, of which chance alone puts 0.1 outside on average; N = 200.)
    """  # noqa: E501
    n = results["n"]
    text = []
    for reference, what in (("none", "no pruning"), ("at2", "AT2 at the same k")):
        higher: dict[str, list[str]] = {}
        lower: dict[str, list[str]] = {}
        total = 0
        tried: dict[str, int] = {}
        for name, k, difference in comparisons(results, reference):
            total += 1
            tried[name] = tried.get(name, 0) + 1
            if is_outside(difference):
                (higher if difference["low"] > 0 else lower).setdefault(name, []).append(k)
        if not total:
            continue
        parts = [
            f"{word}{', outside the 95 % interval' if word == 'higher' or not higher else ''}: {_listed(found, tried)}"
            for word, found in (("higher", higher), ("lower", lower))
            if found
        ]
        text.append(
            f"F1 against {what}: {'; '.join(parts) or 'no difference is outside its 95 % interval'}. "
            f"({total} comparison{'' if total == 1 else 's'}, of which chance alone puts {0.05 * total:.2g} outside on "
            f"average; N = {n}.)"
        )
    if n < FEW_QUESTIONS:
        text.append(TOO_FEW)
    return "\n\n".join(text)


def comparisons(results: Mapping[str, Any], reference: str) -> Iterator[tuple[str, str, Estimates]]:
    """Every method, k and difference in F1 to the reference; neither the references nor the oracle is a rival."""
    differences = results["paired"].get(reference, {})
    for name in ordered(differences):
        if name not in (*REFERENCES, reference):
            for k, entry in differences[name].items():
                yield name, k, entry["f1"]


def ordered(names: Mapping[str, Any]) -> list[str]:
    """As tables list methods: no pruning, family by family, the oracle."""
    rivals = [name for members in by_family(names).values() for name in members]
    return [name for name in ("none", *rivals, "oracle") if name in names]


def is_outside(difference: Estimates) -> bool:
    """Whether the interval of a difference leaves out 0."""
    return bool(difference["low"] > 0 or difference["high"] < 0)


def passes_in_all(method: Mapping[str, Any]) -> dict[str, float]:
    """Forward passes over the whole prompt to choose passages; the draft, where one is needed, is the first."""
    return {key: value + bool(method["uses_draft"]) for key, value in method["cost"]["passes"].items()}


def forward_passes(method: Mapping[str, Any]) -> float:
    """The mean of `passes_in_all`."""
    return passes_in_all(method)["mean"]


def estimate(value: Estimates | None, sign: str = "", decimals: int = 3, bold: bool = False) -> str:
    """`mean [low, high]`, or a dash where there is none.

    Example:
        >>> estimate({"mean": 0.05, "low": 0.01, "high": 0.09}, sign="+", decimals=2)
        '+0.05 [+0.01, +0.09]'
    """
    if value is None:
        return "–"
    mean, low, high = (f"{value[key]:{sign}.{decimals}f}" for key in ("mean", "low", "high"))
    return f"**{mean}** [{low}, {high}]" if bold else f"{mean} [{low}, {high}]"


def _listed(found: Mapping[str, Sequence[str]], tried: Mapping[str, int]) -> str:
    def at(name: str, ks: Sequence[str]) -> str:
        return "every k" if len(ks) == tried[name] > 2 else f"k = {', '.join(ks)}"

    return ", ".join(f"{label_of(name)} ({at(name, ks)})" for name, ks in found.items())


def _rows(results: Mapping[str, Any], only_f1: bool = False, bold: bool = False) -> list[list[str]]:
    paired = results["paired"]
    references = [name for name in ("none", "at2") if paired.get(name)]
    versus = [f"ΔF1 vs {name if name == 'none' else label_of(name)}" for name in references]
    rows = [["method", "k", *_SHARES.values(), "passes", "seconds", *versus]]
    for name in ordered(results["methods"]):
        method = results["methods"][name]
        for k, entry in method["at"].items():
            shares = [
                f"{entry[metric]['mean']:.3f}" if only_f1 and metric != "f1" else estimate(entry[metric])
                for metric in _SHARES
            ]
            differences = [paired[reference].get(name, {}).get(k) for reference in references]
            rows.append(
                [
                    label_of(name),
                    k_label(name, k),
                    *shares,
                    f"{forward_passes(method):.1f}" if name not in REFERENCES else "",
                    f"{method['cost']['seconds']['mean']:.2f}" if name not in REFERENCES else "",
                    *(
                        estimate(difference["f1"], "+", bold=bold and is_outside(difference["f1"]))
                        if difference
                        else ""
                        for difference in differences
                    ),
                ]
            )
    return rows
