"""Loads the coefficients of a model from a given place, or from the coefficients that come with at2-prune."""

from __future__ import annotations

import os

from transformers import PretrainedConfig

from ..catalogue import DEFAULT_METHOD, METHODS
from ..errors import CoefficientsError
from ..models.fingerprint import fingerprint
from ..models.language_model import LanguageModel
from .head_coefficients import HeadCoefficients
from .scout_coefficients import ScoutCoefficients, holds_scout
from .shipped import shipped_coefficients, shipped_for_weights

__all__ = ["AnyCoefficients", "load_coefficients", "method_of", "read_coefficients"]

AnyCoefficients = HeadCoefficients | ScoutCoefficients


def method_of(coefficients: AnyCoefficients) -> str:
    """Return the method that coefficients belong to.

    For head coefficients, the measures of the row groups decide. If all row groups have the measure `contribution`, the
    method is `contribution_learned`. If all row groups have the measure `effective`, the method is
    `effective_attention_learned`. All other head coefficients belong to the method `at2`.
    """
    if isinstance(coefficients, ScoutCoefficients):
        return coefficients.method
    measures = {group.measure for group in coefficients.row_groups}
    if measures == {"contribution"}:
        return "contribution_learned"
    return "effective_attention_learned" if measures == {"effective"} else "at2"


def load_coefficients(
    language_model: LanguageModel,
    coefficients: str | os.PathLike[str] | AnyCoefficients | None = None,
    method: str = DEFAULT_METHOD,
) -> AnyCoefficients:
    """Load coefficients and check that they were made for a model of this kind.

    Args:
        language_model: the model that uses the coefficients.
        coefficients: `HeadCoefficients` or `ScoutCoefficients`, the folder or the Hub id of saved coefficients, or an
            estimator that AT2's authors published (`madrylab/at2-*`, or a `.pt` file). `None`
            loads the coefficients that come with at2-prune for a model of this name or with these weights.
        method: the method of the coefficients. It is used only if `coefficients` is None.

    Raises:
        CoefficientsError: there are no coefficients, the coefficients cannot be read, or they were made for another
            kind of model.
    """
    if coefficients is None and method not in shipped_coefficients().get(language_model.name, {}):
        coefficients = shipped_for_weights(fingerprint(language_model.model), method)
    return read_coefficients(language_model.name, language_model.model.config, coefficients, method)


def read_coefficients(
    model: str,
    config: PretrainedConfig | None,
    coefficients: str | os.PathLike[str] | AnyCoefficients | None = None,
    method: str = DEFAULT_METHOD,
) -> AnyCoefficients:
    """Load coefficients as `load_coefficients` does. The model itself need not be loaded.

    Args:
        model: the model's name.
        config: the model's config. With None, the coefficients are not compared with the model. The weights of a
            published estimator are then all in one layer, because the number of layers is unknown.
        coefficients: see `load_coefficients`. `None` loads the coefficients that come with at2-prune for a model of
            this name. The model's weights are not compared.
        method: see `load_coefficients`.

    Raises:
        CoefficientsError: see `load_coefficients`.
    """
    if coefficients is None:
        shipped = shipped_coefficients().get(model, {})
        if method not in shipped:
            raise CoefficientsError(_how_to_train(model, method))
        coefficients = shipped[method]
    if not isinstance(coefficients, (HeadCoefficients, ScoutCoefficients)):
        name = os.path.expanduser(os.fspath(coefficients))
        if _is_estimator(name):
            coefficients = HeadCoefficients.from_at2_estimator(name, config, model)
        elif holds_scout(name):
            coefficients = ScoutCoefficients.from_pretrained(name)
        else:
            coefficients = HeadCoefficients.from_pretrained(name)
    if config is not None:
        coefficients.check_model(config)
    return coefficients


def _is_estimator(name: str) -> bool:
    """Return whether a name looks like that of an estimator which AT2's authors published."""
    return name.startswith("madrylab/") or name.endswith(".pt")


def _how_to_train(model: str, method: str) -> str:
    info = METHODS[METHODS[method].coefficients]
    recipe = "".join(f"{option} " for option in info.train)
    return (
        f"no coefficients of the method {method} come with at2-prune for {model}: train them with "
        f"`at2-prune {info.train_command} --model {model} --data hotpotqa/hotpot_qa --split train --limit 300 "
        f"{recipe}--out DIR` "
        "and pass coefficients=DIR, or use the method average_attention, which needs no coefficients"
    )
