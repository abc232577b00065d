"""Makes the model card of head coefficients. The card names the model, the training, and the quality of the scores."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from huggingface_hub import ModelCard, ModelCardData

from ..attention.rows import RowGroup

__all__ = ["fact", "model_card"]

_NOT_SHOWN = ("curve", "versions", "weights")
USUAL_STEPS = 1000
"""The default of `training.fit.FitSettings.steps`."""
_MADE = {
    "draft": "The coefficients were learned from ablations, by the method of AT2 ([arXiv 2504.13752]"
    "(https://arxiv.org/abs/2504.13752))",
    "answer": "The coefficients were learned from ablations of the sources, with the known answer as the target "
    "instead of a draft. All else follows the method of AT2 ([arXiv 2504.13752](https://arxiv.org/abs/2504.13752))",
}
"""For each value of `learn_from`, the sentences about the training of the coefficients."""


class Described(Protocol):
    """The attributes of head coefficients that a model card shows; see `HeadCoefficients`."""

    weight: torch.Tensor
    row_groups: tuple[RowGroup, ...]
    model_name: str
    model_type: str
    training: dict[str, Any]


def model_card(coefficients: Described) -> ModelCard:
    """Return the model card of head coefficients, in Markdown with the header that the Hub reads."""
    data = ModelCardData(library_name="at2-prune", tags=["at2-prune", "context-attribution"])
    training = coefficients.training
    made = _MADE[training.get("learn_from", "draft")]
    rows = ", ".join(group.name for group in coefficients.row_groups)
    shape = f"{len(coefficients.row_groups)} x {coefficients.weight.shape[1]} x {coefficients.weight.shape[2]}"
    score = "The score of a source is the inner product of the coefficients and the source's attention mass"
    parts = [
        f"---\n{data.to_yaml()}\n---",
        f"# Head coefficients for {coefficients.model_name or 'a model'}",
        f"{made}. The coefficients are for models of type `{coefficients.model_type or 'unknown'}`. They have these "
        f"row groups: {rows}. Their shape (row groups x layers x heads) is {shape}. {score}. Scores can be compared "
        "within one question only.",
        "```python\nfrom at2_prune import AT2Pruner\n\n"
        f'pruner = AT2Pruner.from_pretrained("{coefficients.model_name}", coefficients="THIS_FOLDER_OR_ITS_ID")\n```',
    ]
    facts = _facts(training)
    if facts:
        parts.append("\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts)]))
    if "data" in training and "learn_from" in training:
        parts.append(f"This command made the coefficients:\n\n```console\n$ {_command(coefficients)}\n```")
    if training.get("curve"):
        curve = ", ".join(f"{step}: {value:.3f}" for step, value in training["curve"])
        parts.append(f"Correlation of scores and ablation outcomes on the training questions, by step: {curve}.")
    return ModelCard("\n\n".join(parts) + "\n")


def _facts(training: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = [(key.replace("_", " "), value) for key, value in training.items() if key not in _NOT_SHOWN]
    if "versions" in training:
        facts.append(("versions", training["versions"]))
    return [
        (f"{name}, on the held-out questions" if _is_measure(value) else name, fact(value)) for name, value in facts
    ]


def _is_measure(value: Any) -> bool:
    return isinstance(value, Mapping) and "learned" in value


def fact(value: Any) -> str:
    """Return the text of a setting or of a measurement."""
    if isinstance(value, Mapping) and set(value) == {"mean", "low", "high"}:
        return f"{value['mean']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
    if isinstance(value, Mapping):
        return "; ".join(f"{str(key).replace('_', ' ')} {fact(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(fact, value))
    return str(value)


def _command(coefficients: Described) -> str:
    """Return the command that makes the coefficients again."""
    training = coefficients.training
    command = ["at2-prune", "train", "--model", coefficients.model_name, "--data", str(training["data"])]
    if training["learn_from"] != "draft":
        command += ["--learn-from", training["learn_from"]]
    command += ["--ablations", str(training.get("ablations"))]
    if training.get("thoughts"):
        command += ["--thoughts", "asked" if str(training.get("prompt")).endswith("-reasoning") else "own"]
    command += ["--rows", *(group.name for group in coefficients.row_groups)]
    for setting, option, usual in (
        ("split", "--split", None),
        ("ids", "--ids", None),
        ("limit", "--limit", None),
        ("shuffle_passages", "--shuffle-passages", None),
        ("granularity", "--granularity", "passage"),
        ("positions", "--positions", "kept"),
        ("targets", "--targets", "draft"),
        ("max_new_tokens", "--max-new-tokens", 48),
        ("holdout", "--holdout", 0.15),
        ("seed", "--seed", 0),
    ):
        if training.get(setting, usual) != usual:
            command += [option, str(training[setting])]
    steps = training.get("fit", {}).get("steps", USUAL_STEPS)
    command += [] if steps == USUAL_STEPS else ["--steps", str(steps)]
    return shlex.join([*command, "--dtype", str(training.get("dtype")), "--out", "DIR"])
