"""Methods by name for a model: the scorers, and the head coefficients that come with at2-prune or are given."""

from __future__ import annotations

import os

from ..coefficients.head_coefficients import HeadCoefficients
from ..coefficients.shipped import shipped_coefficients
from ..errors import CoefficientsError, InputError
from ..models.language_model import LanguageModel
from ..pipeline.config import DEFAULT_METHOD
from . import BUILT_ON, LEARNED, SCORERS, Scorer, ScorerOptions, make_scorer

__all__ = ["load_coefficients", "load_scorer", "method_of"]


def load_scorer(
    language_model: LanguageModel,
    method: str = DEFAULT_METHOD,
    coefficients: str | os.PathLike[str] | HeadCoefficients | None = None,
) -> Scorer:
    """A method for a model.

    Args:
        language_model: the model it scores with.
        method: one with head coefficients (`fusion`, or one of `at2_prune.scorers.LEARNED`), or any of
            `at2_prune.scorers.SCORERS`.
        coefficients: of a method that has them, see `load_coefficients`; they say themselves which one they make, see
            `method_of`.

    Raises:
        InputError: no such method, or coefficients for one that has none.
        CoefficientsError: see `load_coefficients`.
        MissingExtraError: the method needs a package that is not installed.
    """
    if method in SCORERS:
        if coefficients is not None:
            raise InputError(f"the method {method} has no head coefficients, but some were given: {coefficients!s:.80}")
        return make_scorer(method)
    if method not in LEARNED and method not in BUILT_ON:
        raise InputError(f"no method {method!r}: there are {', '.join([*LEARNED, *BUILT_ON, *SCORERS])}")
    learned = BUILT_ON.get(method, method)
    loaded = load_coefficients(language_model, coefficients, learned)
    if coefficients is not None and method in LEARNED:  # what was given says itself which of them it makes
        method = learned = method_of(loaded)
    return make_scorer(method, ScorerOptions({learned: loaded}))


def method_of(coefficients: HeadCoefficients) -> str:
    """The method that coefficients make, by the rows they weigh.

    That is `scout` without rows of the draft; with them `at2`, or `contribution_learned` and
    `effective_attention_learned` where they weigh nothing but these.
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
    """Head coefficients for a model, checked against it.

    Args:
        language_model: the model they must fit.
        coefficients: a folder or Hub id that `HeadCoefficients.save_pretrained` wrote; an estimator AT2's authors
            published (`madrylab/at2-*`, or a `.pt` file); None for those that come with the package.
        method: which of those that come with the package.

    Raises:
        CoefficientsError: there are none, they cannot be read, or they were made for another model.
    """
    config = language_model.model.config
    if coefficients is None:
        shipped = shipped_coefficients().get(language_model.name, {})
        if method not in shipped:
            recipe = " ".join(LEARNED.get(method, ()))
            raise CoefficientsError(
                f"no head coefficients of the method {method} come with at2-prune for {language_model.name}: train them"
                f" with\n  at2-prune train --model {language_model.name} --data hotpotqa/hotpot_qa --split train "
                f"--limit 300 {recipe + ' ' if recipe else ''}--out DIR\nand pass coefficients=DIR, or take the method "
                "average_attention, which needs none"
            )
        coefficients = shipped[method]
    if not isinstance(coefficients, HeadCoefficients):
        name = os.fspath(coefficients)
        if name.startswith("madrylab/") or name.endswith(".pt"):
            coefficients = HeadCoefficients.from_at2_estimator(name, config, language_model.name)
        else:
            coefficients = HeadCoefficients.from_pretrained(name)
    coefficients.check_model(config)
    return coefficients
