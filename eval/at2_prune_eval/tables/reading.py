"""Describe results in words: name the differences whose interval does not contain 0."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from at2_prune.catalogue import REFERENCES, label_of

from .cells import FEW_QUESTIONS, TOO_FEW, Estimates, is_outside, ordered, references

__all__ = ["comparisons", "reading"]


def reading(results: Mapping[str, Any]) -> str:
    """Name the methods whose F1 differs from the F1 of no pruning, and from the F1 of the main method.

    A method is named if the 95 % interval of the difference does not contain 0. The text also says how many intervals
    would not contain 0 by chance alone.

    Example:
        >>> gain = {"f1": {"mean": 0.1, "low": 0.05, "high": 0.15}}
        >>> loss = {"f1": {"mean": -0.2, "low": -0.3, "high": -0.1}}
        >>> print(reading({"n": 200, "paired": {"none": {"at2": {"1": loss, "3": gain}, "oracle": {"gold": gain}}}}))
        F1 against no pruning: higher for AT2 (k = 3); lower for AT2 (k = 1). The 95 % intervals of these differences do not contain 0. (2 comparisons; N = 200. By chance alone, 0.1 intervals on average would not contain 0.)
    """  # noqa: E501
    n = results["n"]
    found = [_against(results, reference, title) for reference, title in references(results["paired"])]
    return "\n\n".join([*filter(None, found), *([TOO_FEW] if n < FEW_QUESTIONS else [])])


def comparisons(results: Mapping[str, Any], reference: str) -> Iterator[tuple[str, str, Estimates]]:
    """Yield each method and k, with the difference between the method's F1 and the reference's F1.

    The reference, no pruning and the oracle are left out.
    """
    differences = results["paired"].get(reference, {})
    for name in ordered(differences):
        if name not in (*REFERENCES, reference):
            for k, entry in differences[name].items():
                yield name, k, entry["f1"]


def _against(results: Mapping[str, Any], reference: str, label: str) -> str:
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
        return ""
    parts = [f"{word} for {_listed(found, tried)}" for word, found in (("higher", higher), ("lower", lower)) if found]
    shown = f"{'; '.join(parts)}. The 95 % intervals of these differences do not contain 0"
    return (
        f"F1 against {label}: {shown if parts else 'the 95 % interval of every difference contains 0'}. "
        f"({total} comparison{'' if total == 1 else 's'}; N = {results['n']}. By chance alone, {0.05 * total:.2g} "
        "intervals on average would not contain 0.)"
    )


def _listed(found: Mapping[str, Sequence[str]], tried: Mapping[str, int]) -> str:
    def at(name: str, ks: Sequence[str]) -> str:
        return "every k" if len(ks) == tried[name] > 2 else f"k = {', '.join(ks)}"

    return ", ".join(f"{label_of(name)} ({at(name, ks)})" for name, ks in found.items())
