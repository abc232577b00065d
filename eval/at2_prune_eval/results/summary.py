"""A run's lines -> means with 95 % bootstrap intervals, and paired differences on the same questions."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from at2_prune.bootstrap import LEVEL, RESAMPLES, SEED, bootstrap_mean, bootstrap_ratio
from at2_prune.errors import InputError

from ..k_values import ALL, GOLD
from ..run.store import Record, RunStore

__all__ = ["COMPARED_TO", "COSTS", "FORMAT", "METRICS", "PAIRED", "add_faithfulness", "summarize"]

FORMAT = 3
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
"""Metrics whose differences on the same questions are taken."""
COSTS = ("seconds", "passes", "memory")
COMPARED_TO = ("none", "at2", "scout", "bm25", "dense", "surrogate_32")
"""The methods that differences are taken to: no pruning, and at the same k the paper's, the default one, the usual
rerankers, and the usual pruning by ablations."""


def summarize(records: Sequence[Record], config: Mapping[str, Any], skipped: Mapping[str, int]) -> dict[str, Any]:
    """What `results.json` holds.

    Every interval is a 95 % percentile bootstrap over questions, 2,000 resamples, the same resamples for all.

    Args:
        records: lines of `questions.jsonl`, at least one.
        config: of the run.
        skipped: rows of the data that were left out, by reason.

    Returns:
        `config`; `n`, the number of questions; `skipped`; `empty_drafts`, the number for which the model drafted
        nothing, so that methods that look at the draft kept the first k; `methods.<name>.at.<k>.<metric>` with
        `mean, low, high`; `methods.<name>.cost` of choosing, on top of the draft, in seconds, forward passes over the
        whole prompt (a backward pass counts two) and bytes; `paired.<reference>.<name>.<k>.<metric>`, the difference on
        the same questions, for the metrics of `PAIRED`: a gain whose interval holds 0 is not a gain; `gap.<name>.<k>`,
        the part of the way in F1 from no pruning to the oracle, None where the oracle is no better; and `bootstrap`,
        how the intervals were made.
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
        "methods": {
            name: {
                "uses_draft": records[0]["methods"][name]["uses_draft"],
                "cost": {
                    cost: _estimate([_cost(record, record["methods"][name]["cost"], cost) for record in records])
                    for cost in COSTS
                },
                "at": {
                    k: {metric: _estimate(_values(records, name, k, metric)) for metric in METRICS}
                    for k in records[0]["methods"][name]["at"]
                },
            }
            for name in names
        },
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


def add_faithfulness(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Put the faithfulness that was measured in a run's folder into its `results.json`; returns what that holds."""
    path = Path(folder) / RunStore.RESULTS_FILE
    results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    measured = {kind: path.with_name(f"faithfulness_{kind}.json") for kind in ("passage", "sentence")}
    found = {kind: json.loads(file.read_text(encoding="utf-8")) for kind, file in measured.items() if file.exists()}
    results["faithfulness"] = found or None
    RunStore(folder, results["config"]).write_results(results)
    return results


def _paired(records: Sequence[Record], name: str, reference: str) -> dict[str, Any]:
    """Differences at every k: to the reference's own k where it has one."""
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
    """How much of the gap in F1 between no pruning and the oracle it closes."""
    none = ("none", ALL)
    gained = _differences(records, "f1", (name, k), none)
    ratio = bootstrap_ratio(gained, _differences(records, "f1", ("oracle", GOLD), none))
    return None if ratio.mean != ratio.mean else asdict(ratio)


def _values(records: Sequence[Record], name: str, k: str, metric: str) -> list[float]:
    return [record["methods"][name]["at"][k][metric] for record in records]


def _cost(record: Record, cost: Mapping[str, float], which: str) -> float:
    return cost["tokens"] / record["prompt_tokens"] if which == "passes" else cost[which]


def _estimate(values: Sequence[float]) -> dict[str, float]:
    return asdict(bootstrap_mean(values))
