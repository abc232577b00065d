"""Every pruning method, declared once: its name, label, family, score, cost and settings.

The configuration, the scorer registry, the command line and the figures read this file. The table in
docs/evaluation.md is generated from this file. This file imports neither torch nor any other module of the package. A
new method needs an entry here and a scorer in `at2_prune/scorers`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "DEFAULT_EMBEDDER",
    "DEFAULT_METHOD",
    "FAMILIES",
    "METHODS",
    "REFERENCES",
    "REMOVED",
    "MethodInfo",
    "RemovedMethod",
    "by_family",
    "configurable_methods",
    "family_of",
    "label_of",
    "learned_methods",
    "method_table",
    "scoring_methods",
]

DEFAULT_METHOD = "scout"
DEFAULT_EMBEDDER = "BAAI/bge-small-en"
"""The Hub id of the embedder of the method scout_dense."""

FAMILIES = {
    "retrieval": "Rankers that read no draft",
    "attention": "Attention, nothing learned",
    "gradient": "Gradients and ablations",
    "learned": "Learned head coefficients",
    "other": "Other",
}
"""The description of each family, by the family's name. Tables and figures show the families in this order."""


@dataclass(frozen=True)
class MethodInfo:
    """The entry of one method."""

    name: str
    label: str
    """The name that figures and tables show."""
    family: str
    """A key of `FAMILIES`."""
    score: str = ""
    """A description of a passage's score. The HTML report and the table in the docs show this text."""
    passes: str = "0"
    """The number of forward passes over the whole prompt before the passages are chosen. Writing a draft counts as one
    pass. A backward pass counts as two. The text "part of 1" means that a pass runs only some layers. The method `none`
    chooses no passages. It has the value 1, because the model answers from the whole prompt."""
    scorer: str = ""
    """The scorer's class, as `module.Class` in `at2_prune.scorers`. It is empty for a method that does not score."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The keyword arguments for the scorer's class."""
    coefficients: str = ""
    """The name of the method whose learned coefficients this method uses. A method with coefficients of its own has its
    own name here. The text is empty if the method uses no coefficients."""
    train_command: str = "train"
    """The subcommand of `at2-prune` that trains the method's coefficients."""
    train: tuple[str, ...] = ()
    """The options of `train_command` for this method, in addition to the options for model, data and output."""
    configurable: bool = True
    """True if `PruneConfig` and the command line accept the method. It is False for the methods in `REFERENCES`."""

    slow: bool = False
    """True if the method is too slow for many questions. `at2-prune eval --methods all` leaves a slow method out, but
    `--methods NAME` runs it."""

    @property
    def uses_index(self) -> bool:
        """Return whether the method reads passages through the passage index."""
        return bool(self.coefficients) and METHODS[self.coefficients].train_command == "train-scout"

    @property
    def gives_probabilities(self) -> bool:
        """Return whether calibrated coefficients of this method give probabilities."""
        return self.learned and self.uses_index

    @property
    def learned(self) -> bool:
        """Return whether coefficients are learned for this method itself."""
        return self.coefficients == self.name


@dataclass(frozen=True)
class RemovedMethod:
    """The record of a method that an earlier version had."""

    label: str
    """The name that figures and tables of earlier runs show."""
    family: str
    """A key of `FAMILIES`."""
    advice: str
    """The sentence that says what replaces the method. Errors show this text."""


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
        "Attention × value magnitude × alignment in the draft's rows, with a learned coefficient per head.",
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
        "Attention of the question's rows to the passages, with learned coefficients. The model reads each passage "
        "separately, and needs no draft.",
        "part of 1 for new passages; for passages in the index, only the question is run",
        "scout.ScoutScorer",
        coefficients="scout",
        train_command="train-scout",
    ),
    MethodInfo(
        "scout_dense",
        "Scout and embedder",
        "learned",
        "The score of scout with one more feature: the cosine of the question's embedding and the passage's embedding.",
        "part of 1 for new passages; for passages in the index, only the question is run",
        "scout.ScoutScorer",
        coefficients="scout_dense",
        train_command="train-scout",
        train=("--embedder", DEFAULT_EMBEDDER),
    ),
    MethodInfo(
        "fusion",
        "Fusion",
        "learned",
        "The standardised score of scout, plus 0.3 times the standardised score of the retriever.",
        "part of 1 for new passages; for passages in the index, only the question is run",
        "fusion.FusionScorer",
        coefficients="scout",
    ),
    MethodInfo("random", "Random", "retrieval", "A random number.", "0", "random.RandomScorer"),
    MethodInfo(
        "retriever_order",
        "Retriever order",
        "retrieval",
        "The retriever's score, if every passage has such a score. Otherwise, earlier passages score higher.",
        "0",
        "retriever_order.RetrieverOrderScorer",
    ),
    MethodInfo("bm25", "BM25", "retrieval", "BM25 of the question and the passage (bm25s).", "0", "bm25.BM25Scorer"),
    MethodInfo(
        "dense",
        "Dense",
        "retrieval",
        "The cosine of the question's embedding and the passage's embedding.",
        "0",
        "dense.DenseScorer",
    ),
    MethodInfo(
        "cross_encoder",
        "Cross-encoder",
        "retrieval",
        "The output of a reranker that reads question and passage together. The reranker's id or folder must be given.",
        "0",
        "cross_encoder.CrossEncoderScorer",
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
        "at most 2, plus 1 per passage; less where ablations share a prefix",
        "leave_one_out.LeaveOneOutScorer",
    ),
    MethodInfo(
        "surrogate_32",
        "Surrogate, m = 32",
        "gradient",
        "The passage's weight in a LASSO surrogate that is fitted to 32 random ablations (ContextCite, arXiv "
        "2409.00729; called ESM in the AT2 paper).",
        "at most 33; less where ablations share a prefix",
        "surrogate.SurrogateScorer",
        {"ablations": 32},
    ),
    MethodInfo(
        "surrogate_64",
        "Surrogate, m = 64",
        "gradient",
        "The passage's weight in a LASSO surrogate that is fitted to 64 random ablations.",
        "at most 65; less where ablations share a prefix",
        "surrogate.SurrogateScorer",
        {"ablations": 64},
    ),
    MethodInfo(
        "heta",
        "HETA",
        "gradient",
        "Attention flow × (sensitivity + information) (arXiv 2604.13258). The flow goes from the passage to the draft. "
        "The sensitivity comes from the Hessian of the draft's log-probability. The information is the KL divergence "
        "that arises if the passage's embeddings are set to zero.",
        "about 8 per passage",
        "heta.HetaScorer",
        slow=True,
    ),
    MethodInfo(
        "ca_lig",
        "CA-LIG",
        "gradient",
        "Integrated gradients of every layer, fused with attention gradients (after arXiv 2602.16608).",
        "about 8 per layer",
        "ca_lig.CaLigScorer",
        slow=True,
    ),
    MethodInfo("oracle", "Oracle", "other", "The gold passages are kept.", "0", configurable=False),
)

METHODS: dict[str, MethodInfo] = {entry.name: entry for entry in _ENTRIES}
"""The entry of every method, by the method's name."""
REFERENCES = ("none", "oracle")
"""The two references for comparisons: `none` keeps all passages, and `oracle` keeps only the gold passages."""
REMOVED = {
    "prompt_scout": RemovedMethod(
        "Scout, one prompt",
        "learned",
        "the method prompt_scout, an earlier form of scout, was removed in 0.2: use scout, and train its coefficients "
        "with at2-prune train-scout",
    ),
}
"""The methods that were removed, by name. Results of earlier runs still show their labels."""
_SURROGATE = re.compile(r"surrogate_(\d+)")


def scoring_methods() -> list[str]:
    """Return the names of the methods that score passages, in the order of this file."""
    return [name for name, info in METHODS.items() if info.scorer]


def configurable_methods() -> list[str]:
    """Return the names of the methods that `PruneConfig` and the command line accept. The default method is first."""
    return [DEFAULT_METHOD, *(name for name, info in METHODS.items() if info.configurable and name != DEFAULT_METHOD)]


def learned_methods() -> list[str]:
    """Return the names of the methods that coefficients are learned for."""
    return [name for name, info in METHODS.items() if info.learned]


def label_of(name: str) -> str:
    """Return the label of a method. For a name that is not in the catalogue, the label is made from the name.

    A method that was removed still has its old label.

    Example:
        >>> label_of("gradient_x_input"), label_of("surrogate_16"), label_of("my_method")
        ('Gradient × input', 'Surrogate, m = 16', 'my method')
    """
    if name in METHODS or name in REMOVED:
        return (METHODS.get(name) or REMOVED[name]).label
    surrogate = _SURROGATE.fullmatch(name)
    return f"Surrogate, m = {surrogate[1]}" if surrogate else name.replace("_", " ")


def family_of(name: str) -> str:
    """Return the family of a method, a key of `FAMILIES`.

    A surrogate with any number of ablations belongs to `gradient`. Any other unknown name belongs to `other`.

    Example:
        >>> family_of("bm25"), family_of("surrogate_16"), family_of("my_method")
        ('retrieval', 'gradient', 'other')
    """
    if name in METHODS or name in REMOVED:
        return (METHODS.get(name) or REMOVED[name]).family
    return "gradient" if _SURROGATE.fullmatch(name) else "other"


def by_family(names: Iterable[str]) -> dict[str, list[str]]:
    """Group methods by family, in the order that tables and figures use. The methods in `REFERENCES` are left out.

    Example:
        >>> by_family(["none", "at2", "bm25", "random"])
        {'retrieval': ['random', 'bm25'], 'learned': ['at2']}
        >>> by_family(["surrogate_64", "surrogate_16", "surrogate_32"])
        {'gradient': ['surrogate_16', 'surrogate_32', 'surrogate_64']}
    """
    known = [*METHODS, *REMOVED]

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
    """Return a Markdown table of all scoring methods. The docs show this table."""
    rows = ["| method | a passage's score | passes |", "|---|---|---|"]
    for family, names in by_family(METHODS).items():
        rows.append(f"| *{FAMILIES[family]}* | | |")
        rows += [f"| `{name}` | {METHODS[name].score} | {METHODS[name].passes} |" for name in names]
    return "\n".join(rows)
