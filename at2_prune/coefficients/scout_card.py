"""Makes the model card of scout's coefficients. It shows their use, training, measured recall and limits."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from huggingface_hub import ModelCard, ModelCardData

from .calibration import Calibration
from .model_card import fact

__all__ = ["scout_card"]

_SETTINGS = ("dtype", "precision", "fit", "features", "evaluation", "versions")
LIMITS = (
    "The coefficients belong to this model and these layers. Another model needs other coefficients.",
    "Scores can be compared within one question only. Probabilities can be compared across questions, if the questions "
    "are like those that the probabilities were fitted to.",
    "The coefficients were learned on the passages of the data above. Measure the recall on your own data before you "
    "use the coefficients with other kinds of text or other languages.",
    "Each passage is read alone, in pieces of at most 384 tokens, so no passage attends to another passage while it is "
    "read. Only the links use attention between passages.",
)


class DescribedScout(Protocol):
    """The attributes of scout's coefficients that a model card shows; see `ScoutCoefficients`."""

    @property
    def layers(self) -> tuple[int, ...]: ...
    @property
    def link_layers(self) -> tuple[int, ...]: ...
    @property
    def model_name(self) -> str: ...
    @property
    def model_type(self) -> str: ...
    @property
    def model_layers(self) -> int: ...
    @property
    def training(self) -> dict[str, Any]: ...
    @property
    def calibration(self) -> Calibration | None: ...
    @property
    def method(self) -> str: ...
    @property
    def embedder_name(self) -> str | None: ...


def scout_card(coefficients: DescribedScout) -> ModelCard:
    """Return the model card of scout's coefficients, in Markdown with the header that the Hub reads."""
    data = ModelCardData(library_name="at2-prune", tags=["at2-prune", "context-attribution"])
    name, training, embedder = coefficients.model_name, coefficients.training, coefficients.embedder_name
    parts = [
        f"---\n{data.to_yaml()}\n---",
        f"# Coefficients of {coefficients.method} for {name or 'a model'}",
        f"The method {coefficients.method} of at2-prune reads each passage once and alone, and keeps the passage's "
        f"keys. The question's tokens then attend to the kept keys, and these coefficients turn the attention into a "
        f"score. The coefficients are for models of type `{coefficients.model_type or 'unknown'}` with "
        f"{coefficients.model_layers} layers. Keys are kept in these layers: {_listed(coefficients.layers)}. Passages "
        f"are linked by the attention in these layers: {_listed(coefficients.link_layers)}."
        + (f" The score also uses the cosine of the embedder {embedder}." if embedder else ""),
        f'## Use\n\n```python\nfrom at2_prune import AT2Pruner\n\npruner = AT2Pruner.from_pretrained("{name}", '
        'coefficients="THIS_FOLDER")\n```',
    ]
    if training.get("data"):
        parts += [f"## Data\n\n{_data(training)}", f"## Settings\n\n{_settings(training)}"]
        parts.append(f"This command made the coefficients:\n\n```console\n$ {_command(coefficients)}\n```")
    if coefficients.calibration is not None and coefficients.calibration.measured:
        parts.append(f"## Probabilities\n\n{_probabilities(coefficients.calibration)}")
    parts.append("## Limits\n\n" + "\n".join(f"- {limit}" for limit in LIMITS))
    return ModelCard("\n\n".join(parts) + "\n")


def _data(training: Mapping[str, Any]) -> str:
    """Return a table with one line for each data set, and the sentences before and after the table.

    The line has the data set's numbers of questions, and the recall on its held-out questions.
    """
    held_out: Mapping[str, Any] = training.get("held_out") or {}
    measures = list(next(iter(held_out.values()), {}))
    columns = ["data set", "questions fitted", "questions held out", *(name.replace("@", " at ") for name in measures)]
    rows = []
    for name, fitted, held in zip(
        training["data"], training["questions_fitted"], training["questions_held_out"], strict=True
    ):
        found = held_out.get(name, {})
        rows.append([name, str(fitted), str(held), *(fact(found[m]) if m in found else "" for m in measures)])
    lines = [columns, ["---"] * len(columns), *rows]
    made = (
        "For each question, the data names the supporting passages. The coefficients were learned from these passages "
        "by multinomial logistic regression. In the fit, the weight of a data set is its number of questions, raised "
        f"to the power {training['fit'].get('balance', 0):g}."
    )
    measured = "Recall of supporting passages is measured on the held-out questions, with 95 % intervals."
    if not held_out:
        measured = "No question was held out, so nothing was measured here."
    return "\n\n".join([made, "\n".join(f"| {' | '.join(line)} |" for line in lines), measured])


def _probabilities(calibration: Calibration) -> str:
    """Return the measures of a calibration as text.

    The measures are the expected calibration error, the AUROC, the recall and the reliability curve.
    """
    measured = calibration.measured
    lines = [
        f"The probabilities were fitted to {calibration.questions} questions. Each question was scored by coefficients "
        "that were fitted to other questions. The measures below are cross-validated too.",
        f"The expected calibration error is {measured['ece']:.3f}. Another probability says whether the passages hold "
        f"evidence at all. Its AUROC is {measured.get('auroc', float('nan')):.3f}. For the AUROC, each question counts "
        "twice: once with its evidence, and once without its evidence. The AUROC says how well the probability "
        "separates these two groups. The recall of "
        f"evidence among the best 1, 2 and 3 sources is {measured['recall@1']:.3f}, {measured['recall@2']:.3f} and "
        f"{measured['recall@3']:.3f}.",
        "| sources | mean probability | share of evidence |\n| --- | --- | --- |\n"
        + "\n".join(
            f"| {one['sources']} | {one['probability']:.3f} | {one['evidence']:.3f} |"
            for one in measured["reliability"]
        ),
    ]
    return "\n\n".join(lines)


def _settings(training: Mapping[str, Any]) -> str:
    facts = [(name, fact(training[name])) for name in _SETTINGS if training.get(name)]
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts)])


def _command(coefficients: DescribedScout) -> str:
    """Return the command that makes the coefficients again."""
    training = coefficients.training
    selections: Sequence[Mapping[str, Any]] = training.get("selection") or [{}] * len(training["data"])
    named = list(zip(training["data"], selections, strict=True))
    given = [(str(name), selection) for name, selection in named if not {"shipped", "passages"} & {*selection}]
    model = ["--model", coefficients.model_name, "--dtype", str(training["dtype"]), "--out", "DIR"]
    model += ["--embedder", coefficients.embedder_name] if coefficients.embedder_name else []
    if not given:
        passages = [str(selection["passages"]) for _, selection in named if "passages" in selection]
        return shlex.join(["at2-prune", "calibrate", *(["--passages", *passages] if passages else []), *model])
    command = ["at2-prune", "train-scout", "--data", *(name for name, _ in given)]
    limits = [selection.get("limit") for _, selection in given]
    if None not in limits:
        command += ["--limit", *map(str, limits if len(set(limits)) > 1 else limits[:1])]
    split = next((selection["split"] for _, selection in given if selection.get("split")), None)
    command += ["--split", split] if split else []
    command += ["--add-shipped"] if any("shipped" in selection for _, selection in named) else []
    command += ["--layers", *map(str, coefficients.layers), "--link-layers", *map(str, coefficients.link_layers)]
    return shlex.join([*command, "--holdout", str(training["fit"]["holdout"]), *model])


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(map(str, values))
