"""Scorers by the name of their method, as the catalogue declares them."""

from __future__ import annotations

import os
from importlib import import_module

from ..catalogue import DEFAULT_METHOD, METHODS, MethodInfo, scoring_methods
from ..coefficients.head_coefficients import HeadCoefficients
from ..coefficients.loading import load_coefficients, method_of
from ..errors import InputError
from ..models.language_model import LanguageModel
from .base import Scorer, ScorerOptions
from .learned import LearnedScorer

__all__ = ["load_scorer", "make_scorer"]


def make_scorer(name: str, options: ScorerOptions | None = None) -> Scorer:
    """Make the scorer of a method.

    Args:
        name: a method of the catalogue, or a key of `options.coefficients`.
        options: coefficients and the other things that some methods need.

    Raises:
        InputError: there is no such method, or the options lack something that the method needs.
        MissingExtraError: a package that the method needs is not installed.

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
    if info is None or not info.scorer:
        learned = [one for one in scoring_methods() if METHODS[one].coefficients]
        others = [one for one in scoring_methods() if one not in learned]
        raise InputError(
            f"no method {name!r}. Without head coefficients, these can be used: {', '.join(sorted(others))}. "
            f"With them, also: {', '.join(sorted({*learned, *options.coefficients}))}"
        )
    if info.coefficients not in ("", *options.coefficients):
        raise InputError(
            f"the method {name!r} needs head coefficients: pass them as "
            f"ScorerOptions(coefficients={{{info.coefficients!r}: ...}})"
        )
    return _scorer_class(info).create(name, options, **info.settings)


def load_scorer(
    language_model: LanguageModel,
    method: str = DEFAULT_METHOD,
    coefficients: str | os.PathLike[str] | HeadCoefficients | None = None,
) -> Scorer:
    """Make the scorer of a method for a model.

    Args:
        language_model: the model that it scores with.
        method: a method of `at2_prune.catalogue` that scores.
        coefficients: head coefficients for a method that uses them; see `at2_prune.coefficients.loading`. If they are
            given, their row groups decide the method (see `method_of`), and this overrides `method`. `fusion` is the
            exception: it takes them as the coefficients of `scout`.

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
    """Return the class of a method. The module of the class is imported here, when a scorer is made."""
    module, _, name = info.scorer.rpartition(".")
    return getattr(import_module(f"{__package__}.{module}"), name)
