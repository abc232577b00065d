"""The values of k, as records, tables and figures name them."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["ALL", "GOLD", "k_label", "sorted_ks"]

ALL, GOLD = "all", "gold"
"""Stand in k's place where every passage is kept, and where the gold passages are kept."""


def k_label(name: str, k: str) -> str:
    """The value that a table shows as k: `all` for no pruning and `gold` for the oracle."""
    return {"none": ALL, "oracle": GOLD}.get(name, k)


def sorted_ks(ks: Iterable[str]) -> list[str]:
    """Values of k, each once, in the order in which tables and figures show them: numbers first.

    Example:
        >>> sorted_ks(["auto", "10", "2", "10"])
        ['2', '10', 'auto']
    """
    return sorted({*ks}, key=lambda k: (not k.isdigit(), int(k) if k.isdigit() else 0, k))
