"""Summarize faithfulness over questions, as means with 95 % bootstrap intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from at2_prune.bootstrap import bootstrap_mean

from ..run.store import Record
from .measure import REFERENCES

__all__ = ["summarize_faithfulness"]


def summarize_faithfulness(records: Sequence[Record]) -> dict[str, Any]:
    """Average faithfulness over questions.

    Args:
        records: the records that `measure_faithfulness` returned, all with the same methods.

    Returns:
        A dictionary with these keys. Estimates have the keys `mean`, `low` and `high`. A key is missing, or its value
        is None, if no question has a value for it.

        `n`: the number of questions that were measured;
        `left_out`: the number of questions that were not measured, by reason;
        `ablations`: the number of ablations for LDS, as the maximum over questions;
        `ks`: the values of k for the top-k drop;
        `lds.<method>`, `top_k_drop.<method>.<k>`, `kendall.<reference>.<method>`: the means of these measures;
        `permutation.<method>`: the share of questions whose answer from the top k is the draft: with the method's
        `scores`, with `permuted` scores, and the `difference` of both. The key `log_p` holds the same three values for
        the draft's log-probability given the top k;
        `paired.<method>`: `lds` and `top_k_drop.<k>`, minus the values of AT2 on the same questions, if AT2 was
        measured;
        `order.<method>`: the two values `content` and `position` of the order test;
        `order_skipped`: the methods that did not take the order test.
    """
    measured = [record for record in records if record["left_out"] is None]
    names = list(measured[0]["methods"]) if measured else []
    of = {name: [record["methods"][name] for record in measured] for name in names}
    ks = [int(k) for k in of[names[0]][0]["top_k_drop"]] if names else []
    references = [reference for reference in REFERENCES if reference in names]
    return {
        "n": len(measured),
        "left_out": dict(Counter(record["left_out"] for record in records if record["left_out"] is not None)),
        "ablations": max((record["ablations"] for record in measured), default=0),
        "ks": ks,
        "lds": _each({name: [entry["lds"] for entry in of[name]] for name in names}),
        "top_k_drop": {
            name: _each({str(k): [entry["top_k_drop"][str(k)] for entry in of[name]] for k in ks}) for name in names
        },
        "paired": {name: _minus(of[name], of["at2"], ks) for name in names if name != "at2"} if "at2" in names else {},
        "kendall": {
            reference: _each(
                {name: [entry["kendall"][reference] for entry in of[name]] for name in names if name != reference}
            )
            for reference in references
        },
        "permutation": {
            name: {**_permutation(of[name], "same"), "log_p": _permutation(of[name], "log_p")} for name in names
        },
        "order": {
            name: _each({key: [entry["order"][key] for entry in tested] for key in ("content", "position")})
            for name in names
            if (tested := [entry for entry in of[name] if entry["order"] is not None])
        },
        "order_skipped": list(dict.fromkeys(name for record in measured for name in record["order_skipped"])),
    }


def _minus(entries: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]], ks: Sequence[int]) -> dict[str, Any]:
    pairs = list(zip(entries, others, strict=True))
    lds = [one["lds"] - other["lds"] for one, other in pairs if one["lds"] is not None and other["lds"] is not None]
    return {
        "lds": asdict(bootstrap_mean(lds)) if lds else None,
        "top_k_drop": _each(
            {str(k): [one["top_k_drop"][str(k)] - other["top_k_drop"][str(k)] for one, other in pairs] for k in ks}
        ),
    }


def _permutation(entries: Sequence[dict[str, Any]], key: str) -> dict[str, Any]:
    scores = [entry["permutation"]["scores"][key] for entry in entries]
    permuted = [entry["permutation"]["permuted"][key] for entry in entries]
    difference = [own - other for own, other in zip(scores, permuted, strict=True)]
    return _each({"scores": scores, "permuted": permuted, "difference": difference})


def _each(values: Mapping[str, Sequence[float | None]]) -> dict[str, dict[str, float]]:
    known = {name: [value for value in some if value is not None] for name, some in values.items()}
    return {name: asdict(bootstrap_mean(some)) for name, some in known.items() if some}
