"""Results in words: the differences that are outside their intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from at2_prune.catalogue import REFERENCES, label_of

from .cells import FEW_QUESTIONS, TOO_FEW, Estimates, is_outside, ordered, references

__all__ = ["comparisons", "reading"]


def reading(results: Mapping[str, Any]) -> str:
    """List the differences in F1 to no pruning and to the main method that are outside their intervals, with those due to chance.

    Example:
        >>> gain = {"f1": {"mean": 0.1, "low": 0.05, "high": 0.15}}
        >>> loss = {"f1": {"mean": -0.2, "low": -0.3, "high": -0.1}}
        >>> print(reading({"n": 200, "paired": {"none": {"at2": {"1": loss, "3": gain}, "oracle": {"gold": gain}}}}))
        F1 against no pruning: higher, outside the 95 % interval: AT2 (k = 3); lower: AT2 (k = 1). (2 comparisons, of which chance alone puts 0.1 outside on average; N = 200.)
    """  # noqa: E501
    n = results["n"]
    found = [_against(results, reference, title) for reference, title in references(results["paired"])]
    return "\n\n".join([*filter(None, found), *([TOO_FEW] if n < FEW_QUESTIONS else [])])


def comparisons(results: Mapping[str, Any], reference: str) -> Iterator[tuple[str, str, Estimates]]:
    """Every method, k and difference in F1 to the reference, without the two references and the oracle."""
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
    parts = [
        f"{word}{', outside the 95 % interval' if word == 'higher' or not higher else ''}: {_listed(found, tried)}"
        for word, found in (("higher", higher), ("lower", lower))
        if found
    ]
    return (
        f"F1 against {label}: {'; '.join(parts) or 'no difference is outside its 95 % interval'}. "
        f"({total} comparison{'' if total == 1 else 's'}, of which chance alone puts {0.05 * total:.2g} outside on "
        f"average; N = {results['n']}.)"
    )


def _listed(found: Mapping[str, Sequence[str]], tried: Mapping[str, int]) -> str:
    def at(name: str, ks: Sequence[str]) -> str:
        return "every k" if len(ks) == tried[name] > 2 else f"k = {', '.join(ks)}"

    return ", ".join(f"{label_of(name)} ({at(name, ks)})" for name, ks in found.items())
