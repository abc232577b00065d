"""Tables of cost: the cost of choosing passages, and the whole cost of no pruning and of learned methods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from at2_prune.catalogue import REFERENCES, by_family, label_of

from ..k_values import ALL
from .cells import Rows, estimate, is_outside, ordered

__all__ = [
    "cost_rows",
    "forward_passes",
    "has_reader",
    "mode_rows",
    "passes_in_all",
    "reader_tokens",
    "seconds_to_choose",
    "whole_passes",
]


def has_reader(results: Mapping[str, Any]) -> bool:
    """Return whether a model other than the scoring model wrote the drafts and answers."""
    return "reader" in results.get("config", {})


def passes_in_all(method: Mapping[str, Any]) -> dict[str, float]:
    """Return the number of forward passes over the whole prompt that a method takes to choose passages.

    The number is a mean with its interval. If the method reads a draft, the draft counts as one pass.
    """
    return {key: value + bool(method["uses_draft"]) for key, value in method["cost"]["passes"].items()}


def forward_passes(method: Mapping[str, Any]) -> float:
    """Return the mean of `passes_in_all`."""
    return passes_in_all(method)["mean"]


def seconds_to_choose(results: Mapping[str, Any], name: str) -> float:
    """Return the mean seconds to choose passages. They include the draft's seconds if the method reads a draft."""
    method = results["methods"][name]
    seconds: float = method["cost"]["seconds"]["mean"]
    return seconds + (results["draft"]["seconds"]["mean"] if method["uses_draft"] else 0.0)


def whole_passes(results: Mapping[str, Any], name: str, k: str) -> tuple[float, float] | None:
    """Return the whole cost of a method at one k, in forward passes over the prompt with all passages.

    With a separate reader, only the passes of the reader are counted.

    Returns:
        The passes to choose passages, and the passes to read the kept passages. None if the run did not record the
        tokens of its prompts.
    """
    methods = results["methods"]
    if name == "none":  # the draft is the answer
        return 0.0, 1.0
    whole = methods["none"]["at"][ALL].get("prompt_tokens", {}).get("mean") if "none" in methods else None
    read = methods[name]["at"].get(k, {}).get("prompt_tokens")
    if not whole or not read:
        return None
    choose = float(methods[name]["uses_draft"]) if has_reader(results) else forward_passes(methods[name])
    return choose, read["mean"] / whole


def reader_tokens(results: Mapping[str, Any], name: str, k: str) -> float:
    """Return the mean number of tokens that the reader reads for an answer.

    If the method reads a draft, the tokens of the draft's prompt are included.
    """
    methods = results["methods"]
    read: float = methods[name]["at"][k]["prompt_tokens"]["mean"]
    drafts = methods[name]["uses_draft"] and name != "none"  # with no pruning, the draft is the answer
    return read + (methods["none"]["at"][ALL]["prompt_tokens"]["mean"] if drafts else 0.0)


def cost_rows(results: Mapping[str, Any]) -> Rows:
    """Return the rows of the table of costs: for each method, the mean cost of choosing passages for one question.

    With a separate reader, the passes of the two models are in separate columns.
    """
    apart = has_reader(results)
    costs = ["passes beyond the draft", "passes in all", "seconds beyond the draft", "seconds in all"]
    if apart:
        costs = ["passes of the scorer", "passes of the reader", "seconds of the scorer", "seconds of both"]
    rows = [["method", "called", "needs the draft", *costs, "memory, MiB"]]
    for name in ordered(results["methods"]):
        if name in REFERENCES:
            continue
        method = results["methods"][name]
        cost = method["cost"]
        rows.append(
            [
                label_of(name),
                f"`{name}`",
                "yes" if method["uses_draft"] else "no",
                estimate(cost["passes"], decimals=2),
                f"{float(method['uses_draft']):.2f}" if apart else estimate(passes_in_all(method), decimals=2),
                estimate(cost["seconds"], decimals=2),
                f"{seconds_to_choose(results, name):.2f}",
                estimate({key: value / 2**20 for key, value in cost["memory"].items()}, decimals=0),
            ]
        )
    return rows


def mode_rows(results: Mapping[str, Any]) -> Rows:
    """Return the rows of the table of modes. A mode is no pruning, or a learned method at one k.

    A row has the F1 and the whole cost of the mode.
    """
    methods = results["methods"]
    names = by_family(methods).get("learned", [])
    header = ["mode", "k", "F1", "against no pruning", "part of the way to the oracle"]
    rows = [[*header, "passes to choose", "to answer", "in all", "passages"]]
    if not names or whole_passes(results, names[0], next(iter(methods[names[0]]["at"]))) is None:
        return rows
    base = methods["none"]["at"][ALL]
    rows.append(["No pruning", ALL, estimate(base["f1"]), "", "0", "0", "1", "1", f"{base['passages']['mean']:.1f}"])
    for name in names:
        for k, entry in methods[name]["at"].items():
            difference = results["paired"].get("none", {}).get(name, {}).get(k)
            choose, answer = whole_passes(results, name, k) or (0.0, 0.0)
            rows.append(
                [
                    label_of(name),
                    k,
                    estimate(entry["f1"]),
                    estimate(difference["f1"], "+", bold=is_outside(difference["f1"])) if difference else "",
                    estimate(results.get("gap", {}).get(name, {}).get(k), decimals=2),
                    *(f"{passes:.2f}" for passes in (choose, answer, choose + answer)),
                    f"{entry['passages']['mean']:.1f}",
                ]
            )
    return rows
