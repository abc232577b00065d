"""A run's lines -> means with 95 % bootstrap intervals, and paired differences on the same questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from at2_prune.errors import InputError
from at2_prune.intervals import bootstrap_mean

from .methods import ALL
from .store import Record

__all__ = ["METRICS", "REFERENCE", "summarize"]

METRICS = ("f1", "em", "recall", "seconds")
REFERENCE = "none"
"""The method that differences are taken to."""


def summarize(records: Sequence[Record], config: Mapping[str, Any]) -> dict[str, Any]:
    """What `results.json` holds.

    Every interval is a 95 % percentile bootstrap over questions, 2,000 resamples, the same resamples for all.

    Args:
        records: lines of `questions.jsonl`, at least one.
        config: of the run.

    Returns:
        `config`; `n`, the number of questions; `empty_drafts`, the number for which a method had no draft to look at
        and kept the first k; `methods.<name>.<k or all>.<f1, em, recall, seconds>` with `mean, low, high`, where
        recall is that of gold passages and seconds is the sum of a method's steps; and
        `paired.none.<name>.<k or all>.f1`, the difference in F1 to no pruning on the same questions: a gain whose
        interval holds 0 is not a gain.
    """
    if not records:
        raise InputError("there is no question to summarise")
    methods: dict[str, Any] = {}
    paired: dict[str, Any] = {}
    reference = _values(records, REFERENCE, ALL, "f1")
    for name, entries in records[0]["methods"].items():
        methods[name] = {
            k: {metric: _estimate(_values(records, name, k, metric)) for metric in METRICS} for k in entries
        }
        if name != REFERENCE:
            paired[name] = {k: {"f1": _difference(_values(records, name, k, "f1"), reference)} for k in entries}
    return {
        "config": dict(config),
        "n": len(records),
        "empty_drafts": sum(bool(record["fell_back"]) for record in records),
        "methods": methods,
        "paired": {REFERENCE: paired},
    }


def _values(records: Sequence[Record], name: str, k: str, metric: str) -> list[float]:
    entries = [record["methods"][name][k] for record in records]
    if metric == "seconds":
        return [sum(entry["seconds"].values()) for entry in entries]
    return [entry[metric] for entry in entries]


def _difference(values: Sequence[float], reference: Sequence[float]) -> dict[str, float]:
    return _estimate([value - other for value, other in zip(values, reference, strict=True)])


def _estimate(values: Sequence[float]) -> dict[str, float]:
    return asdict(bootstrap_mean(values))
