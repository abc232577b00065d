"""Methods as figures and tables name them, the family each is drawn with, and the values of k."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

__all__ = [
    "ALL",
    "FAMILIES",
    "GOLD",
    "REFERENCES",
    "OneK",
    "by_family",
    "family_of",
    "k_label",
    "label_of",
    "sorted_ks",
]

REFERENCES = ("none", "oracle")
"""What methods are held against: all passages, and the gold ones only."""
OneK = int | Literal["auto"]
"""How many passages to keep; `auto` chooses for each question."""
ALL, GOLD = "all", "gold"
"""What stands in k's place where every passage is kept, and where the gold ones are."""

FAMILIES = {
    "retrieval": "Rankers that read no draft",
    "attention": "Attention, nothing learned",
    "gradient": "Gradients and ablations",
    "learned": "Learned head coefficients",
    "other": "Other",
}
"""Families by name, in the order they are shown."""

_METHODS = {
    "none": ("No pruning", "other"),
    "random": ("Random", "retrieval"),
    "retriever_order": ("Retriever order", "retrieval"),
    "bm25": ("BM25", "retrieval"),
    "dense": ("Dense", "retrieval"),
    "cross_encoder": ("Cross-encoder", "retrieval"),
    "average_attention": ("Average attention", "attention"),
    "last_layer_attention": ("Last-layer attention", "attention"),
    "contribution": ("Contribution", "attention"),
    "effective_attention": ("Effective attention", "attention"),
    "gradient_x_input": ("Gradient × input", "gradient"),
    "leave_one_out": ("Leave-one-out", "gradient"),
    "at2": ("AT2", "learned"),
    # what docs/models.md calls coefficients that were trained on these measures
    "contribution_learned": ("Contribution, learned", "learned"),
    "effective_attention_learned": ("Effective, learned", "learned"),
    "scout": ("Scout", "learned"),
    "fusion": ("Fusion", "learned"),
    "oracle": ("Oracle", "other"),
}
_SURROGATE = re.compile(r"surrogate_(\d+)")


def label_of(name: str) -> str:
    """The method's name as a reader sees it; one that is not known here keeps its own.

    Example:
        >>> label_of("gradient_x_input"), label_of("surrogate_32"), label_of("my_method")
        ('Gradient × input', 'Surrogate, m = 32', 'my method')
    """
    if surrogate := _SURROGATE.fullmatch(name):
        return f"Surrogate, m = {surrogate[1]}"
    return _METHODS[name][0] if name in _METHODS else name.replace("_", " ")


def family_of(name: str) -> str:
    """A key of `FAMILIES`."""
    if _SURROGATE.fullmatch(name):
        return "gradient"
    return _METHODS[name][1] if name in _METHODS else "other"


def by_family(names: Iterable[str]) -> dict[str, list[str]]:
    """Methods by family, in the order they are shown; without the two references.

    Example:
        >>> by_family(["none", "at2", "bm25", "random"])
        {'retrieval': ['random', 'bm25'], 'learned': ['at2']}
    """
    known = list(_METHODS)

    def place(name: str) -> tuple[int, int]:
        surrogate = _SURROGATE.fullmatch(name)
        return (known.index(name) if name in known else len(known), int(surrogate[1]) if surrogate else 0)

    groups: dict[str, list[str]] = {family: [] for family in FAMILIES}
    for name in sorted(names, key=place):
        if name not in REFERENCES:
            groups[family_of(name)].append(name)
    return {family: members for family, members in groups.items() if members}


def k_label(name: str, k: str) -> str:
    """What a table shows as k: `all` for no pruning and `gold` for the oracle."""
    return {"none": ALL, "oracle": GOLD}.get(name, k)


def sorted_ks(ks: Iterable[str]) -> list[str]:
    """Values of k as tables and figures show them, each once: numbers first.

    Example:
        >>> sorted_ks(["auto", "10", "2", "10"])
        ['2', '10', 'auto']
    """
    return sorted({*ks}, key=lambda k: (not k.isdigit(), int(k) if k.isdigit() else 0, k))
