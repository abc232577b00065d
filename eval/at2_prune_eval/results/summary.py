"""Summarize a run's records as means with 95 % bootstrap intervals, and as paired differences on the same questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from at2_prune.bootstrap import LEVEL, RESAMPLES, SEED, bootstrap_mean, bootstrap_ratio
from at2_prune.catalogue import DEFAULT_METHOD
from at2_prune.errors import InputError

from ..k_values import ALL, GOLD
from ..records import Record

__all__ = ["COMPARED_TO", "COSTS", "FORMAT", "METRICS", "PAIRED", "summarize"]

FORMAT = 3
"""The version of the format of `results.json`."""
METRICS = (
    "f1",
    "em",
    "precision",
    "recall",
    "gold_precision",
    "gold_recall",
    "gold_f1",
    "both_gold",
    "passages",
    "prompt_tokens",
)
PAIRED = ("f1", "em", "precision", "recall", "gold_recall", "both_gold")
"""The metrics for which differences on the same questions are computed."""
COSTS = ("seconds", "passes", "memory")
COMPARED_TO = ("none", DEFAULT_METHOD, "at2", "bm25", "dense", "surrogate_32")
"""The references, with which all methods are compared: no pruning, the default method, the method of the AT2 paper, the
usual rerankers, and pruning by ablations. A method at one k is compared with no pruning, and with the other references
at the same k."""


def summarize(records: Sequence[Record], config: Mapping[str, Any], skipped: Mapping[str, int]) -> dict[str, Any]:
    """Summarize the records of a run as the content of `results.json`.

    Every interval is a 95 % percentile bootstrap interval over questions. All intervals use the same 2,000 resamples.

    Args:
        records: the lines of `questions.jsonl`, at least one.
        config: the run's config.
        skipped: the number of rows of the data that were left out, by reason.

    Returns:
        A dictionary with these keys, among others:

        `config`, `skipped`: the arguments;
        `bootstrap`: the settings of the intervals;
        `n`: the number of questions;
        `empty_drafts`: the number of questions for which the model drafted nothing. For these questions, methods that
        read the draft kept the first k passages;
        `methods.<name>.at.<k>.<metric>`: a mean and its interval, under the keys `mean`, `low` and `high`;
        `methods.<name>.cost`: the cost of choosing passages, without the cost of the draft: `seconds`, `passes`, and
        `memory` in bytes. Passes are forward passes of the scoring model over the whole prompt. A backward pass counts
        as two passes;
        `paired.<reference>.<name>.<k>.<metric>`: the difference on the same questions, for the metrics of `PAIRED`. A
        difference is clear only if its interval does not contain 0;
        `gap.<name>.<k>`: the method's gain in F1 over no pruning, divided by the oracle's gain. It is None if the
        oracle gains nothing.

    Raises:
        InputError: there are no records.
    """
    if not records:
        raise InputError("there is no question to summarise")
    names = list(records[0]["methods"])
    return {
        "format": FORMAT,
        "config": dict(config),
        "n": len(records),
        "skipped": dict(skipped),
        "empty_drafts": sum(not record["draft"] for record in records),
        "draft": {cost: _estimate([_cost(record, record["draft_cost"], cost) for record in records]) for cost in COSTS},
        "methods": {name: _method(records, name) for name in names},
        "paired": {
            reference: {name: _paired(records, name, reference) for name in names if name != reference}
            for reference in COMPARED_TO
            if reference in names
        },
        "gap": {
            name: {k: _gap(records, name, k) for k in records[0]["methods"][name]["at"]}
            for name in names
            if {"none", "oracle"} <= {*names} and name not in ("none", "oracle")
        },
        "faithfulness": None,
        "bootstrap": {"resamples": RESAMPLES, "seed": SEED, "level": LEVEL},
    }


def _method(records: Sequence[Record], name: str) -> dict[str, Any]:
    first = records[0]["methods"][name]
    return {
        "uses_draft": first["uses_draft"],
        "cost": {
            cost: _estimate([_cost(record, record["methods"][name]["cost"], cost, scoring=True) for record in records])
            for cost in COSTS
        },
        "at": {k: {metric: _estimate(_values(records, name, k, metric)) for metric in METRICS} for k in first["at"]},
    }


def _paired(records: Sequence[Record], name: str, reference: str) -> dict[str, Any]:
    """Return the differences between a method and a reference at every k.

    The reference is taken at the same k, or, if the reference is no pruning, with all passages.
    """
    known = records[0]["methods"][reference]["at"]
    differences = {}
    for k in records[0]["methods"][name]["at"]:
        other = ALL if ALL in known else k
        if other in known:
            differences[k] = {
                metric: _estimate(_differences(records, metric, (name, k), (reference, other))) for metric in PAIRED
            }
    return differences


def _differences(records: Sequence[Record], metric: str, of: tuple[str, str], to: tuple[str, str]) -> list[float]:
    return [
        value - base for value, base in zip(_values(records, *of, metric), _values(records, *to, metric), strict=True)
    ]


def _gap(records: Sequence[Record], name: str, k: str) -> dict[str, float] | None:
    """Return the method's gain in F1 over no pruning, divided by the oracle's gain."""
    none = ("none", ALL)
    gained = _differences(records, "f1", (name, k), none)
    ratio = bootstrap_ratio(gained, _differences(records, "f1", ("oracle", GOLD), none))
    return None if ratio.mean != ratio.mean else asdict(ratio)


def _values(records: Sequence[Record], name: str, k: str, metric: str) -> list[float]:
    return [record["methods"][name]["at"][k][metric] for record in records]


def _cost(record: Record, cost: Mapping[str, float], which: str, scoring: bool = False) -> float:
    """Return one cost of the reader or, if `scoring` is true, of the scoring model.

    A pass is a forward pass over the prompt of that model.
    """
    whole = record["prompt_tokens"]
    if scoring:  # a record of a run without a separate reader lacks this key
        whole = record.get("scoring_prompt_tokens", whole)
    return cost["tokens"] / whole if which == "passes" else cost[which]


def _estimate(values: Sequence[float]) -> dict[str, float]:
    return asdict(bootstrap_mean(values))
