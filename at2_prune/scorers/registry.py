"""Scorers by the name of their method, as the catalogue declares them."""

from __future__ import annotations

from importlib import import_module

from ..catalogue import METHODS, MethodInfo, learned_methods, scoring_methods
from ..errors import InputError
from .base import Scorer, ScorerOptions
from .learned import LearnedScorer

__all__ = ["make_scorer"]


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
            f"no method {name!r}: there are {', '.join(known)}, and {', '.join(learned_methods())} where they have "
            "coefficients"
        )
    return scorer_class(info).create(name, options, **info.settings)


def scorer_class(info: MethodInfo) -> type[Scorer]:
    """The class of a method; importing it may import torch."""
    module, _, name = info.scorer.rpartition(".")
    return getattr(import_module(f"{__package__}.{module}"), name)
