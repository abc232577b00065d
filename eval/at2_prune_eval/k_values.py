"""Check, order and name the values of k, the number of passages to keep, for runs, records, tables and figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from at2_prune.errors import InputError
from at2_prune.pruning.selection import AUTO, K, check_k

__all__ = ["ALL", "GOLD", "check_ks", "k_label", "sorted_ks"]

ALL, GOLD = "all", "gold"
"""The names that replace k: `all` if every passage is kept, and `gold` if the gold passages are kept."""


def check_ks(ks: Sequence[K]) -> list[K]:
    """Return the values of k in ascending order, without repetitions, and with `auto` at the end.

    Raises:
        InputError: no k is given, or a k is neither an integer of at least 1 nor `auto`.

    Example:
        >>> check_ks(["auto", 3, 1, 3])
        [1, 3, 'auto']
    """
    numbers = {k for k in ks if k != AUTO}
    for k in numbers:
        check_k(k)
    if not ks:
        raise InputError("give at least one k, the number of passages to keep")
    return [*sorted(numbers), *([AUTO] if AUTO in ks else [])]


def k_label(name: str, k: str) -> str:
    """Return the text that a table shows as k: `all` for no pruning, `gold` for the oracle, and else k."""
    return {"none": ALL, "oracle": GOLD}.get(name, k)


def sorted_ks(ks: Iterable[str]) -> list[str]:
    """Return the values of k in the order of tables and figures, without repetitions. Numbers come first.

    Example:
        >>> sorted_ks(["auto", "10", "2", "10"])
        ['2', '10', 'auto']
    """
    return sorted({*ks}, key=lambda k: (not k.isdigit(), int(k) if k.isdigit() else 0, k))
