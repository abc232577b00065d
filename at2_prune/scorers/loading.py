"""Scorers for a model: the method by name, with the head coefficients that are given or that come with at2-prune."""

from __future__ import annotations

import os

from ..catalogue import DEFAULT_METHOD, METHODS, learned_methods, scoring_methods
from ..coefficients.head_coefficients import HeadCoefficients
from ..coefficients.shipped import shipped_coefficients
from ..errors import CoefficientsError, InputError
from ..models.language_model import LanguageModel
from .base import Scorer, ScorerOptions
from .registry import make_scorer

__all__ = ["load_coefficients", "load_scorer", "method_of"]


def load_scorer(
    language_model: LanguageModel,
    method: str = DEFAULT_METHOD,
    coefficients: str | os.PathLike[str] | HeadCoefficients | None = None,
) -> Scorer:
    """Make the scorer of a method for a model.

    Args:
        language_model: the model that it scores with.
        method: a method of `at2_prune.catalogue` that scores.
        coefficients: head coefficients for a method that has them, see `load_coefficients`; their row groups say which
            method they make, see `method_of`.

    Raises:
        InputError: there is no such method, or coefficients were given for a method that has none.
        CoefficientsError: see `load_coefficients`.
        MissingExtraError: the method needs a package that is not installed.
    """
    if method not in scoring_methods():
        raise InputError(f"no method {method!r}: there are {', '.join(scoring_methods())}")
    info = METHODS[method]
    if not info.coefficients:
        if coefficients is not None:
            raise InputError(f"the method {method} has no head coefficients, but some were given: {coefficients!s:.80}")
        return make_scorer(method)
    loaded = load_coefficients(language_model, coefficients, info.coefficients)
    if coefficients is None or not info.learned:
        return make_scorer(method, ScorerOptions({info.coefficients: loaded}))
    method = method_of(loaded)
    return make_scorer(method, ScorerOptions({method: loaded}))


def method_of(coefficients: HeadCoefficients) -> str:
    """The method that coefficients make, by the rows they weigh.

    Coefficients without draft rows make `scout`. Coefficients whose draft rows are all of one other measure make
    `contribution_learned` or `effective_attention_learned`. All others make `at2`.
    """
    if not coefficients.uses_draft:
        return "scout"
    measures = {group.measure for group in coefficients.row_groups}
    if measures == {"contribution"}:
        return "contribution_learned"
    return "effective_attention_learned" if measures == {"effective"} else "at2"


def load_coefficients(
    language_model: LanguageModel,
    coefficients: str | os.PathLike[str] | HeadCoefficients | None = None,
    method: str = DEFAULT_METHOD,
) -> HeadCoefficients:
    """Load head coefficients and check that they fit the model.

    Args:
        language_model: the model they must fit.
        coefficients: a folder or Hub id that `HeadCoefficients.save_pretrained` wrote; an estimator that AT2's authors
            published (`madrylab/at2-*`, or a `.pt` file); None for those that come with the package.
        method: the method, where they come with the package.

    Raises:
        CoefficientsError: there are none, they cannot be read, or they were made for another model.
    """
    config = language_model.model.config
    if coefficients is None:
        shipped = shipped_coefficients().get(language_model.name, {})
        if method not in shipped:
            raise CoefficientsError(_how_to_train(language_model.name, method))
        coefficients = shipped[method]
    if not isinstance(coefficients, HeadCoefficients):
        name = os.fspath(coefficients)
        if name.startswith("madrylab/") or name.endswith(".pt"):
            coefficients = HeadCoefficients.from_at2_estimator(name, config, language_model.name)
        else:
            coefficients = HeadCoefficients.from_pretrained(name)
    coefficients.check_model(config)
    return coefficients


def _how_to_train(model: str, method: str) -> str:
    recipe = "".join(f"{option} " for option in METHODS[method].train) if method in learned_methods() else ""
    return (
        f"no head coefficients of the method {method} come with at2-prune for {model}: train them with\n"
        f"  at2-prune train --model {model} --data hotpotqa/hotpot_qa --split train --limit 300 {recipe}--out DIR\n"
        "and pass coefficients=DIR, or take the method average_attention, which needs none"
    )
