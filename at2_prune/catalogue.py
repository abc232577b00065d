"""Every method, declared once: its name, label, family, score, cost and settings.

The configuration, the scorer registry, the command line and the figures read this file. The table in
docs/evaluation.md is generated from it. This file imports neither torch nor any other module of the package. A new
method needs an entry here and a scorer in `at2_prune/scorers`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "DEFAULT_METHOD",
    "FAMILIES",
    "METHODS",
    "REFERENCES",
    "MethodInfo",
    "by_family",
    "configurable_methods",
    "family_of",
    "label_of",
    "learned_methods",
    "method_table",
    "scoring_methods",
]

DEFAULT_METHOD = "scout"

FAMILIES = {
    "retrieval": "Rankers that read no draft",
    "attention": "Attention, nothing learned",
    "gradient": "Gradients and ablations",
    "learned": "Learned head coefficients",
    "other": "Other",
}
"""Families by name, in the order in which tables and figures show them."""


@dataclass(frozen=True)
class MethodInfo:
    """One method."""

    name: str
    label: str
    """The name that figures and tables show."""
    family: str
    """A key of `FAMILIES`."""
    score: str = ""
    """A sentence that describes a passage's score. The HTML report and the table in the docs show it."""
    passes: str = "0"
    """The number of forward passes over the whole prompt that are needed to choose the passages. If the method reads a
    draft, writing it is counted. A backward pass counts as two. A pass that runs only some layers is "part of 1"."""
    scorer: str = ""
    """The scorer's class, as `module.Class` in `at2_prune.scorers`. It is empty for a method that does not score."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The arguments with which the scorer's class is called."""
    coefficients: str = ""
    """The method whose head coefficients this method uses: itself or another. It is empty if the method uses none."""
    train_command: str = "train"
    """The command that learns its coefficients."""
    train: tuple[str, ...] = ()
    """The options of `at2-prune train` that train the method's coefficients, in addition to model, data and output."""
    configurable: bool = True
    """Whether `PruneConfig` and the command line accept the method. They accept neither the two references nor
    `cross_encoder`, which needs a reranker's id."""

    @property
    def learned(self) -> bool:
        """Whether the method has head coefficients of its own, and does not use those of another method."""
        return self.coefficients == self.name


_ENTRIES = (
    MethodInfo("none", "No pruning", "other", "Every passage is kept.", "1", configurable=False),
    MethodInfo(
        "at2",
        "AT2",
        "learned",
        "Attention of the draft's rows, with a learned coefficient per head (AT2, arXiv 2504.13752).",
        "1",
        "learned.LearnedScorer",
        coefficients="at2",
    ),
    MethodInfo(
        "contribution_learned",
        "Contribution, learned",
        "learned",
        "Contribution weights of the draft's rows, with a learned coefficient per head.",
        "1",
        "learned.LearnedScorer",
        coefficients="contribution_learned",
        train=("--rows", "draft-contribution"),
    ),
    MethodInfo(
        "effective_attention_learned",
        "Effective, learned",
        "learned",
        "Effective attention of the draft's rows, with a learned coefficient per head.",
        "1",
        "learned.LearnedScorer",
        coefficients="effective_attention_learned",
        train=("--rows", "draft-effective"),
    ),
    MethodInfo(
        "scout",
        "Scout",
        "learned",
        "Attention of the question's rows to passages that were read alone, with learned coefficients; needs no draft.",
        "part of 1 for new passages, else the question alone",
        "scout.ScoutScorer",
        coefficients="scout",
        train_command="train-scout",
    ),
    MethodInfo(
        "prompt_scout",
        "Scout, one prompt",
        "learned",
        "Attention of the question's and the passages' rows in one prompt, with learned head coefficients.",
        "part of 1",
        "learned.LearnedScorer",
        coefficients="prompt_scout",
        train=("--learn-from", "evidence", "--rows", "question", "question-max", "sources", "sources-max"),
    ),
    MethodInfo(
        "fusion",
        "Fusion",
        "learned",
        "The score of scout plus 0.3 times the retriever's score, both standardised.",
        "part of 1 for new passages, else the question alone",
        "fusion.FusionScorer",
        coefficients="scout",
    ),
    MethodInfo("random", "Random", "retrieval", "A random number.", "0", "random.RandomScorer"),
    MethodInfo(
        "retriever_order",
        "Retriever order",
        "retrieval",
        "The retriever's score if every passage has one. Otherwise an earlier passage scores higher.",
        "0",
        "retriever_order.RetrieverOrderScorer",
    ),
    MethodInfo("bm25", "BM25", "retrieval", "BM25 of the question and the passage (bm25s).", "0", "bm25.BM25Scorer"),
    MethodInfo(
        "dense",
        "Dense",
        "retrieval",
        "The cosine of two sentence embeddings, the question's and the passage's.",
        "0",
        "dense.DenseScorer",
    ),
    MethodInfo(
        "cross_encoder",
        "Cross-encoder",
        "retrieval",
        "The output of a reranker that reads question and passage together; needs the reranker's id.",
        "0",
        "cross_encoder.CrossEncoderScorer",
        configurable=False,
    ),
    MethodInfo(
        "average_attention",
        "Average attention",
        "attention",
        "Attention mass of the draft's rows, averaged over all heads.",
        "1",
        "attention_baselines.AttentionScorer",
    ),
    MethodInfo(
        "last_layer_attention",
        "Last-layer attention",
        "attention",
        "Attention mass of the draft's rows in the last layer, averaged over its heads.",
        "1",
        "attention_baselines.AttentionScorer",
        {"last_layer": True},
    ),
    MethodInfo(
        "contribution",
        "Contribution",
        "attention",
        "Attention × value magnitude × alignment with the head's output, averaged over all heads.",
        "1",
        "attention_baselines.AttentionScorer",
        {"measure": "contribution"},
    ),
    MethodInfo(
        "effective_attention",
        "Effective attention",
        "attention",
        "The part of attention that can affect the output (Naim and Asher 2024), averaged over all heads.",
        "1",
        "attention_baselines.AttentionScorer",
        {"measure": "effective"},
    ),
    MethodInfo(
        "gradient_x_input",
        "Gradient × input",
        "gradient",
        "The passage's embeddings times the gradient of the draft's log-probability.",
        "4",
        "gradient_x_input.GradientXInputScorer",
    ),
    MethodInfo(
        "leave_one_out",
        "Leave-one-out",
        "gradient",
        "The log-odds that the draft loses without the passage.",
        "at most 2 + 1 per passage; shared prefixes save part of it",
        "leave_one_out.LeaveOneOutScorer",
    ),
    MethodInfo(
        "surrogate_32",
        "Surrogate, m = 32",
        "gradient",
        "The weight of a LASSO surrogate fitted to 32 random ablations (ESM, ContextCite).",
        "at most 33; shared prefixes save part of it",
        "surrogate.SurrogateScorer",
        {"ablations": 32},
    ),
    MethodInfo(
        "surrogate_64",
        "Surrogate, m = 64",
        "gradient",
        "The weight of a LASSO surrogate fitted to 64 random ablations.",
        "at most 65; shared prefixes save part of it",
        "surrogate.SurrogateScorer",
        {"ablations": 64},
    ),
    MethodInfo("oracle", "Oracle", "other", "The gold passages are kept.", "0", configurable=False),
)

METHODS: dict[str, MethodInfo] = {entry.name: entry for entry in _ENTRIES}
"""Every method by name."""
REFERENCES = ("none", "oracle")
"""The two references that methods are compared with: all passages, and only the gold passages."""
_SURROGATE = re.compile(r"surrogate_(\d+)")


def scoring_methods() -> list[str]:
    """Return the methods that score passages, in the order of this file."""
    return [name for name, info in METHODS.items() if info.scorer]


def configurable_methods() -> list[str]:
    """Return the methods that `PruneConfig` and the command line accept. The default comes first."""
    return [DEFAULT_METHOD, *(name for name, info in METHODS.items() if info.configurable and name != DEFAULT_METHOD)]


def learned_methods() -> list[str]:
    """Return the methods that have head coefficients of their own."""
    return [name for name, info in METHODS.items() if info.learned]


def label_of(name: str) -> str:
    """Return the label of a method. For a name that is not in the catalogue, the label is made from the name.

    Example:
        >>> label_of("gradient_x_input"), label_of("surrogate_16"), label_of("my_method")
        ('Gradient × input', 'Surrogate, m = 16', 'my method')
    """
    if name in METHODS:
        return METHODS[name].label
    surrogate = _SURROGATE.fullmatch(name)
    return f"Surrogate, m = {surrogate[1]}" if surrogate else name.replace("_", " ")


def family_of(name: str) -> str:
    """Return the family of a method, a key of `FAMILIES`. It is `other` for a name that is not in the catalogue.

    Example:
        >>> family_of("bm25"), family_of("surrogate_16"), family_of("my_method")
        ('retrieval', 'gradient', 'other')
    """
    if name in METHODS:
        return METHODS[name].family
    return "gradient" if _SURROGATE.fullmatch(name) else "other"


def by_family(names: Iterable[str]) -> dict[str, list[str]]:
    """Group methods by family, in the order that tables and figures use. The two references are left out.

    Example:
        >>> by_family(["none", "at2", "bm25", "random"])
        {'retrieval': ['random', 'bm25'], 'learned': ['at2']}
        >>> by_family(["surrogate_64", "surrogate_16", "surrogate_32"])
        {'gradient': ['surrogate_16', 'surrogate_32', 'surrogate_64']}
    """
    known = list(METHODS)

    def place(name: str) -> tuple[int, int]:
        if surrogate := _SURROGATE.fullmatch(name):
            return known.index("surrogate_32"), int(surrogate[1])
        return known.index(name) if name in known else len(known), 0

    groups: dict[str, list[str]] = {family: [] for family in FAMILIES}
    for name in sorted(names, key=place):
        if name not in REFERENCES:
            groups[family_of(name)].append(name)
    return {family: members for family, members in groups.items() if members}


def method_table() -> str:
    """Return the Markdown table of all methods that score, for the docs."""
    rows = ["| method | a passage's score | passes |", "|---|---|---|"]
    for family, names in by_family(METHODS).items():
        rows.append(f"| *{FAMILIES[family]}* | | |")
        rows += [f"| `{name}` | {METHODS[name].score} | {METHODS[name].passes} |" for name in names]
    return "\n".join(rows)
