"""Scorers by the name of their method, as the catalogue declares them."""

from __future__ import annotations

import os
from dataclasses import replace
from importlib import import_module

from ..catalogue import DEFAULT_METHOD, METHODS, MethodInfo, scoring_methods
from ..coefficients.head_coefficients import HeadCoefficients
from ..coefficients.loading import load_coefficients, method_of
from ..errors import InputError
from ..models.language_model import LanguageModel
from .base import Scorer, ScorerOptions
from .learned import LearnedScorer

__all__ = ["check_method", "load_scorer", "make_scorer"]


def make_scorer(name: str, options: ScorerOptions | None = None) -> Scorer:
    """Make the scorer of a method.

    Args:
        name: a method of the catalogue, or any name that `options.coefficients` has.
        options: coefficients and the other things that some methods need.

    Raises:
        InputError: there is no such method, or the options lack what it needs.
        MissingExtraError: a package that it needs is not installed.

    Example:
        >>> make_scorer("surrogate_32").name
        'surrogate_32'
        >>> from at2_prune.coefficients.head_coefficients import HeadCoefficients
        >>> make_scorer("at2", ScorerOptions({"at2": HeadCoefficients.average(2, 4)})).row_groups[0].name
        'draft'
    """
    options = options or ScorerOptions()
    if name in options.coefficients:
        return LearnedScorer(options.coefficients[name], name)
    info = METHODS.get(name)
    if info is None or not info.scorer or info.coefficients not in ("", *options.coefficients):
        available = [one for one in scoring_methods() if METHODS[one].coefficients in ("", *options.coefficients)]
        known = sorted({*available, *options.coefficients})
        raise InputError(
            f"no method {name!r}: there are {', '.join(known)}. Those that need head coefficients are "
            f"{', '.join(one for one in scoring_methods() if METHODS[one].coefficients)}"
        )
    return _scorer_class(info).create(name, options, **info.settings)


def check_method(method: str | None, options: ScorerOptions | None = None) -> None:
    """Check what can be known of a method before a model is loaded. None stands for the default method.

    Raises:
        InputError: there is no such method, or an option that it needs is missing.
        MissingExtraError: a package that it needs is not installed.
    """
    if method is None:
        return
    if method not in scoring_methods():
        raise InputError(f"no method {method!r}: there are {', '.join(scoring_methods())}")
    wanted = METHODS[method].coefficients
    stand_in = {wanted: HeadCoefficients.average(1, 1)} if wanted else {}
    make_scorer(method, replace(options or ScorerOptions(), coefficients=stand_in))


def load_scorer(
    language_model: LanguageModel,
    method: str = DEFAULT_METHOD,
    coefficients: str | os.PathLike[str] | HeadCoefficients | None = None,
) -> Scorer:
    """Make the scorer of a method for a model.

    Args:
        language_model: the model that it scores with.
        method: a method of `at2_prune.catalogue` that scores.
        coefficients: head coefficients for a method that uses them; see `at2_prune.coefficients.loading`. For every
            method but `fusion`, which uses those of `scout`, `method_of` chooses the method from their row groups.

    Raises:
        InputError: there is no such method, or coefficients were given for a method that has none.
        CoefficientsError: there are no coefficients for the model, or those given cannot be used.
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


def _scorer_class(info: MethodInfo) -> type[Scorer]:
    """The class of a method. Its module is imported here, when a scorer is made."""
    module, _, name = info.scorer.rpartition(".")
    return getattr(import_module(f"{__package__}.{module}"), name)
